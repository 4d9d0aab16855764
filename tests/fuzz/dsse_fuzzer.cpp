// The envelope is the only thing that is parsed before a signature holds: any bytes must end in a
// value or an error, and without the private key never in a verified release.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "agent/trust/trust.hpp"

namespace {

namespace trust = updagent::trust;

// RFC 8032, section 7.1, TEST 1: its private half is public, so not for anything but this.
constexpr const char* kPublicKey =
    "-----BEGIN PUBLIC KEY-----\n"
    "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
    "-----END PUBLIC KEY-----\n";

const trust::TrustSet& trusted() {
  static const trust::TrustSet kSet{
      {trust::parse_public_key(kPublicKey, "fuzz", "").value()}, 1, "the fuzzer"};
  return kSet;
}

// What was read can be written, and reads back as the same.
void check_envelope(std::string_view text) {
  const auto envelope = trust::parse_envelope(text);
  if (!envelope) return;
  if (envelope->signatures.size() > trust::kMaxSignatures) std::abort();
  if (trust::pae(envelope->payload_type, envelope->payload).size() > 2 * trust::kMaxEnvelopeBytes)
    std::abort();
  if (const auto statement = trust::parse_statement(envelope->payload)) {
    const auto again = trust::parse_statement(trust::make_statement(*statement));
    if (!again || again->app != statement->app || again->version != statement->version ||
        again->manifest_digest != statement->manifest_digest)
      std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_envelope(text);
  (void)trust::parse_statement(text);
  (void)trust::verify_envelope(text, trusted());
  (void)trust::parse_public_key(text.substr(0, trust::kMaxKeyFileBytes), "fuzz", "");
  return 0;
}
