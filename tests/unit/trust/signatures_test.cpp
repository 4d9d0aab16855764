#include <nlohmann/json.hpp>

#include "agent/trust/base64.hpp"
#include "tests/unit/trust/support.hpp"

namespace updagent::trust {
namespace {

using nlohmann::json;
using namespace test;

std::string signed_by(const std::vector<const PrivateKey*>& keys, const Statement& what = shop()) {
  return make_envelope(what, keys).value();
}

std::vector<std::string> key_ids(const std::string& envelope) {
  std::vector<std::string> ids;
  const Envelope parsed = parse_envelope(envelope).value();
  for (const SignatureInfo& signature : parsed.signatures) ids.push_back(signature.key_id);
  return ids;
}

std::string message_of(const std::string& envelope) {
  const Envelope parsed = parse_envelope(envelope).value();
  return pae(parsed.payload_type, parsed.payload);
}

// r and s out of a DER ECDSA signature, 32 bytes each: what a PKCS#11 device gives.
std::string raw_of(const std::string& der) {
  std::string raw;
  std::size_t at = 2;
  for (int i = 0; i < 2; ++i) {
    const auto length = static_cast<std::size_t>(der[at + 1]);
    std::string number = der.substr(at + 2, length);
    at += 2 + length;
    number.erase(0, number.size() > 32 ? number.size() - 32 : 0);
    raw += std::string(32 - number.size(), '\0') + number;
  }
  return raw;
}

TEST(MakeEnvelope, Refuses_to_sign_nothing_or_without_a_key) {
  EXPECT_REFUSED(make_envelope(shop(), {}), usage);
}

TEST(MakeEnvelope, Refuses_to_sign_what_no_one_could_read) {
  const PrivateKey key = make_key();
  Statement statement = shop();
  statement.app = "../x";
  EXPECT_REFUSED(make_envelope(statement, {&key}), statement_invalid);
}

TEST(MakeEnvelope, Signs_once_with_a_key_that_is_given_twice) {
  const PrivateKey key = make_key();
  EXPECT_EQ(key_ids(signed_by({&key, &key})).size(), 1U);
}

TEST(MakeEnvelope, Gives_the_same_bytes_for_the_same_Ed25519_key) {
  const PrivateKey key = make_key();
  EXPECT_EQ(signed_by({&key}), signed_by({&key}));
}

TEST(AddSignature, Adds_one_that_verifies) {
  const PrivateKey a = make_key();
  const PrivateKey b = make_key(KeyType::ecdsa_p256);
  const auto both = add_signature(signed_by({&a}), b);
  ASSERT_TRUE(both) << both.error().line();
  EXPECT_TRUE(verify_envelope(*both, trusting({half_of(a), half_of(b)}, 2)));
}

TEST(AddSignature, Replaces_an_older_one_of_the_same_key) {
  const PrivateKey a = make_key(KeyType::ecdsa_p256);
  const auto again = add_signature(signed_by({&a}), a);
  ASSERT_TRUE(again) << again.error().line();
  EXPECT_EQ(key_ids(*again), std::vector<std::string>{half_of(a).key_id});
}

TEST(AddSignature, Replaces_one_of_the_same_key_that_stands_under_no_id) {
  const PrivateKey a = make_key(KeyType::ecdsa_p256);
  json tree = json::parse(signed_by({&a}));
  tree["signatures"][0].erase("keyid");
  EXPECT_EQ(key_ids(add_signature(tree.dump(), a).value()).size(), 1U);
}

TEST(AddSignature, Refuses_an_envelope_that_is_not_of_a_release) {
  const PrivateKey key = make_key();
  EXPECT_REFUSED(add_signature("{}", key), envelope_invalid);
  EXPECT_REFUSED(add_signature(R"({"payload":"","payloadType":"text/plain","signatures":[]})", key),
                 payload_type_wrong);
  EXPECT_REFUSED(
      add_signature(
          R"({"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[]})",
          key),
      statement_invalid);
}

TEST(AddSignature, Refuses_a_seventeenth_key) {
  const PrivateKey first = make_key();
  std::string envelope = signed_by({&first});
  for (std::size_t i = 1; i < kMaxSignatures; ++i)
    envelope = add_signature(envelope, make_key()).value();
  EXPECT_EQ(key_ids(envelope).size(), kMaxSignatures);
  EXPECT_REFUSED(add_signature(envelope, make_key()), envelope_invalid);
}

TEST(AttachSignature, Takes_one_that_was_made_over_the_printed_pae) {
  const PrivateKey a = make_key();
  const PrivateKey device = make_key(KeyType::ecdsa_p256);
  const std::string envelope = signed_by({&a});
  const std::string signature = device.sign(message_of(envelope)).value();
  const TrustSet both = trusting({half_of(a), half_of(device)}, 2);
  EXPECT_TRUE(
      verify_envelope(attach_signature(envelope, half_of(device), signature).value(), both));
  EXPECT_TRUE(
      verify_envelope(attach_signature(envelope, half_of(device).key_id, signature).value(), both));
}

TEST(AttachSignature, Takes_raw_r_and_s_of_a_device) {
  const PrivateKey device = make_key(KeyType::ecdsa_p256);
  const PrivateKey a = make_key();
  const std::string envelope = signed_by({&a});
  const std::string raw = raw_of(device.sign(message_of(envelope)).value());
  const auto attached = attach_signature(envelope, half_of(device), raw);
  ASSERT_TRUE(attached) << attached.error().line();
  EXPECT_TRUE(verify_envelope(*attached, trusting({half_of(device)})));
}

TEST(AttachSignature, Refuses_one_that_does_not_fit_the_key) {
  const PrivateKey a = make_key();
  const std::string envelope = signed_by({&a});
  for (const KeyType type : {KeyType::ed25519, KeyType::ecdsa_p256}) {
    const PrivateKey device = make_key(type);
    const std::string elsewhere = device.sign("other bytes").value();
    const auto attached = attach_signature(envelope, half_of(device), elsewhere);
    EXPECT_REFUSED(attached, signature_invalid);
    EXPECT_NE(attached.error().hint().find("--print-pae"), std::string::npos);
    EXPECT_REFUSED(attach_signature(envelope, half_of(device), std::string(64, '\0')),
                   signature_invalid);
  }
}

TEST(AttachSignature, Refuses_what_is_no_key_id_or_no_signature) {
  const PrivateKey a = make_key();
  const std::string envelope = signed_by({&a});
  const std::string id(64, 'a');
  EXPECT_REFUSED(attach_signature(envelope, std::string("abc"), "x"), usage);
  EXPECT_REFUSED(attach_signature(envelope, id, ""), usage);
  EXPECT_REFUSED(attach_signature(envelope, id, std::string(kMaxSignatureBytes + 1, 'x')), usage);
  EXPECT_TRUE(attach_signature(envelope, id, "x"));
}

TEST(MergeSignatures, Keeps_the_valid_ones_of_both) {
  const PrivateKey a = make_key();
  const PrivateKey b = make_key();
  const PrivateKey stranger = make_key();
  const TrustSet trust = trusting({half_of(a), half_of(b)}, 2);
  const auto merged = merge_signatures(signed_by({&a, &stranger}), signed_by({&b, &a}), trust);
  ASSERT_TRUE(merged) << merged.error().line();
  EXPECT_EQ(key_ids(*merged), (std::vector<std::string>{half_of(a).key_id, half_of(b).key_id}));
  EXPECT_TRUE(verify_envelope(*merged, trust));
}

TEST(MergeSignatures, Drops_a_damaged_one) {
  const PrivateKey a = make_key();
  const PrivateKey b = make_key();
  json damaged = json::parse(signed_by({&b}));
  damaged["signatures"][0]["sig"] = base64_encode(std::string(64, 'x'));
  const TrustSet trust = trusting({half_of(a), half_of(b)});
  EXPECT_EQ(key_ids(merge_signatures(signed_by({&a}), damaged.dump(), trust).value()),
            std::vector<std::string>{half_of(a).key_id});
}

TEST(MergeSignatures, Changes_nothing_when_the_other_brings_nothing) {
  const PrivateKey a = make_key();
  const std::string kept = signed_by({&a});
  EXPECT_EQ(merge_signatures(kept, kept, trusting({half_of(a)})).value(), kept);
}

TEST(MergeSignatures, Of_different_payloads_returns_the_one_with_more_valid_keys) {
  const PrivateKey a = make_key();
  const PrivateKey b = make_key();
  Statement other = shop();
  other.version = "1.4.3";
  const TrustSet trust = trusting({half_of(a), half_of(b)});
  const std::string one = signed_by({&a});
  const std::string two = signed_by({&a, &b}, other);
  EXPECT_EQ(merge_signatures(one, two, trust).value(), two);
  EXPECT_EQ(merge_signatures(two, one, trust).value(), two);
  EXPECT_EQ(merge_signatures(one, signed_by({&b}, other), trust).value(), one);
}

TEST(MergeSignatures, Refuses_two_that_no_trusted_key_signed) {
  const PrivateKey a = make_key();
  EXPECT_REFUSED(
      merge_signatures(signed_by({&a}), signed_by({&a}), trusting({half_of(make_key())})),
      signature_unknown_key);
}

}  // namespace
}  // namespace updagent::trust
