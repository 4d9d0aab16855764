// The written form of an envelope, shared by what makes and what changes one.
#pragma once

#include <string>

#include "agent/trust/trust.hpp"

namespace updagent::trust {

// One line of JSON with sorted keys: the same envelope always gives the same bytes. Refused when it
// would be past what readers accept.
base::Result<std::string> envelope_text(const Envelope& envelope);

// The distinct trusted keys that signed, in the order of the signatures, each with its signature.
struct GoodSignature {
  const PublicKey* key;
  const SignatureInfo* signature;
};
std::vector<GoodSignature> good_signatures(const Envelope& envelope, const TrustSet& trust);

}  // namespace updagent::trust
