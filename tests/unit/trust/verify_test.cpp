#include <nlohmann/json.hpp>

#include "agent/trust/base64.hpp"
#include "tests/unit/trust/support.hpp"

namespace updagent::trust {
namespace {

using nlohmann::json;
using namespace test;

std::string signed_by(const std::vector<const PrivateKey*>& keys) {
  return make_envelope(shop(), keys).value();
}

// An envelope over any payload, signed as it is: what make_envelope would not make.
std::string signed_text(const std::string& type, const std::string& payload,
                        const PrivateKey& key) {
  return json{{"payload", base64_encode(payload)},
              {"payloadType", type},
              {"signatures",
               {{{"keyid", half_of(key).key_id},
                 {"sig", base64_encode(key.sign(pae(type, payload)).value())}}}}}
      .dump();
}

TEST(Verify, Takes_a_release_that_a_trusted_key_signed) {
  for (const KeyType type : {KeyType::ed25519, KeyType::ecdsa_p256}) {
    const PrivateKey key = make_key(type);
    const auto verified = verify_envelope(signed_by({&key}), trusting({half_of(key)}));
    ASSERT_TRUE(verified) << verified.error().line();
    EXPECT_EQ(verified->statement.app, "shop");
    EXPECT_EQ(verified->statement.version, "1.4.2");
    EXPECT_EQ(verified->statement.manifest_digest, base::sha256("the manifest"));
    ASSERT_EQ(verified->signed_by.size(), 1U);
    EXPECT_EQ(verified->signed_by[0].key_id, half_of(key).key_id);
  }
}

TEST(Verify, Refuses_an_unknown_key_and_says_how_to_trust_it) {
  const PrivateKey stranger = make_key();
  const auto verified = verify_envelope(signed_by({&stranger}), trusting({half_of(make_key())}));
  EXPECT_REFUSED(verified, signature_unknown_key);
  EXPECT_EQ(verified.error().expected(), "a key in /etc/updagent/trust.d");
  EXPECT_EQ(verified.error().got(), fingerprint(half_of(stranger).key_id));
  EXPECT_NE(verified.error().hint().find("updagent trust add FILE"), std::string::npos);
}

TEST(Verify, On_a_node_without_keys_shows_the_fingerprint_and_the_trust_line) {
  const PrivateKey a = make_key();
  const PrivateKey b = make_key();
  const auto verified = verify_envelope(signed_by({&a, &b}), trusting({}));
  EXPECT_REFUSED(verified, no_trusted_keys);
  EXPECT_EQ(verified.error().exit(), base::Exit::refused);
  const std::string& hint = verified.error().hint();
  EXPECT_NE(hint.find(fingerprint(half_of(a).key_id)), std::string::npos) << hint;
  EXPECT_NE(hint.find(fingerprint(half_of(b).key_id)), std::string::npos) << hint;
  EXPECT_NE(hint.find("updagent trust add FILE"), std::string::npos) << hint;
}

TEST(Verify, Never_prints_a_key_id_that_is_none) {
  json tree = json::parse(signed_by({std::make_unique<PrivateKey>(make_key()).get()}));
  tree["signatures"][0]["keyid"] = "\u001b[2Jevil; rm -rf /";
  const auto verified = verify_envelope(tree.dump(), trusting({}));
  EXPECT_REFUSED(verified, no_trusted_keys);
  EXPECT_EQ(verified.error().hint().find("evil"), std::string::npos);
}

TEST(Verify, Refuses_zero_signatures_even_without_trusted_keys) {
  const PrivateKey key = make_key();
  json tree = json::parse(signed_by({&key}));
  tree["signatures"] = json::array();
  for (const TrustSet& trust : {trusting({}), trusting({half_of(key)})}) {
    const auto verified = verify_envelope(tree.dump(), trust);
    EXPECT_REFUSED(verified, signature_missing);
    EXPECT_EQ(verified.error().got(), "none");
  }
}

TEST(Verify, Tries_all_keys_when_the_envelope_has_no_key_id) {
  const PrivateKey key = make_key();
  json tree = json::parse(signed_by({&key}));
  tree["signatures"][0].erase("keyid");
  EXPECT_TRUE(verify_envelope(tree.dump(), trusting({half_of(make_key()), half_of(key)})));
  EXPECT_REFUSED(verify_envelope(tree.dump(), trusting({half_of(make_key())})),
                 signature_unknown_key);
}

TEST(Verify, Takes_a_wrong_key_id_as_the_hint_that_it_is) {
  const PrivateKey key = make_key();
  const PrivateKey other = make_key();
  json tree = json::parse(signed_by({&key}));
  tree["signatures"][0]["keyid"] = half_of(other).key_id;
  const auto verified = verify_envelope(tree.dump(), trusting({half_of(other), half_of(key)}));
  ASSERT_TRUE(verified) << verified.error().line();
  EXPECT_EQ(verified->signed_by[0].key_id, half_of(key).key_id);
  EXPECT_REFUSED(verify_envelope(tree.dump(), trusting({half_of(other)})), signature_invalid);
}

TEST(Verify, Refuses_every_single_flipped_bit_of_a_signature) {
  for (const KeyType type : {KeyType::ed25519, KeyType::ecdsa_p256}) {
    const PrivateKey key = make_key(type);
    const TrustSet trust = trusting({half_of(key)});
    const json good = json::parse(signed_by({&key}));
    const std::string signature =
        base64_decode(good["signatures"][0]["sig"].get<std::string>()).value();
    for (std::size_t bit = 0; bit < signature.size() * 8; ++bit) {
      std::string flipped = signature;
      flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
      json tree = good;
      tree["signatures"][0]["sig"] = base64_encode(flipped);
      const auto verified = verify_envelope(tree.dump(), trust);
      ASSERT_FALSE(verified) << key_type_name(type) << " bit " << bit;
      EXPECT_EQ(verified.error().code(), base::Code::signature_invalid) << bit;
    }
  }
}

TEST(Verify, Refuses_every_single_flipped_bit_of_the_payload) {
  const PrivateKey key = make_key();
  const TrustSet trust = trusting({half_of(key)});
  const json good = json::parse(signed_by({&key}));
  const std::string payload = make_statement(shop());
  for (std::size_t bit = 0; bit < payload.size() * 8; bit += 3) {
    std::string flipped = payload;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    json tree = good;
    tree["payload"] = base64_encode(flipped);
    const auto verified = verify_envelope(tree.dump(), trust);
    ASSERT_FALSE(verified) << bit;
    EXPECT_EQ(verified.error().code(), base::Code::signature_invalid) << bit;
  }
}

TEST(Verify, Survives_any_single_changed_byte_of_the_envelope) {
  const PrivateKey key = make_key();
  const TrustSet trust = trusting({half_of(key)});
  const std::string good = signed_by({&key});
  for (std::size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x01);
    const auto verified = verify_envelope(bad, trust);
    // only names that nobody signs (a key id, "keyid" itself) may change without harm
    if (!verified) continue;
    EXPECT_EQ(verified->statement.manifest_digest, shop().manifest_digest) << at;
  }
}

TEST(Verify, Refuses_every_truncation) {
  const PrivateKey key = make_key();
  const std::string good = signed_by({&key});
  for (std::size_t size = 0; size < good.size(); ++size)
    EXPECT_FALSE(verify_envelope(good.substr(0, size), trusting({half_of(key)}))) << size;
}

TEST(Verify, Counts_a_key_once_however_often_it_signed) {
  const PrivateKey key = make_key(KeyType::ecdsa_p256);  // each of its signatures is different
  json tree = json::parse(signed_by({&key}));
  const json again = json::parse(signed_by({&key}));
  tree["signatures"].push_back(again["signatures"][0]);
  tree["signatures"][1].erase("keyid");
  const auto verified =
      verify_envelope(tree.dump(), trusting({half_of(key, "a"), half_of(make_key())}, 2));
  EXPECT_REFUSED(verified, signature_threshold);
  EXPECT_EQ(verified.error().expected(), "2 different keys");
  EXPECT_TRUE(verified.error().got().starts_with("1: 'a' (SHA256:")) << verified.error().got();
}

TEST(Verify, Counts_a_key_once_however_often_the_node_lists_it) {
  const PrivateKey key = make_key(KeyType::ecdsa_p256);
  json tree = json::parse(signed_by({&key}));
  tree["signatures"].push_back(json::parse(signed_by({&key}))["signatures"][0]);
  const auto verified =
      verify_envelope(tree.dump(), trusting({half_of(key, "a"), half_of(key, "b")}, 2));
  EXPECT_REFUSED(verified, signature_threshold);
  EXPECT_NE(verified.error().hint().find("only 1 in"), std::string::npos);
}

TEST(Verify, Takes_two_keys_for_a_threshold_of_two) {
  const PrivateKey a = make_key(KeyType::ed25519);
  const PrivateKey b = make_key(KeyType::ecdsa_p256);
  const TrustSet trust = trusting({half_of(a, "a"), half_of(b, "b")}, 2);
  const auto verified = verify_envelope(signed_by({&b, &a}), trust);
  ASSERT_TRUE(verified) << verified.error().line();
  EXPECT_EQ(verified->signed_by.size(), 2U);
  EXPECT_REFUSED(verify_envelope(signed_by({&a}), trust), signature_threshold);
}

TEST(Verify, Does_not_let_a_strangers_signature_count_for_the_threshold) {
  const PrivateKey a = make_key();
  const PrivateKey stranger = make_key();
  const auto verified =
      verify_envelope(signed_by({&a, &stranger}), trusting({half_of(a), half_of(make_key())}, 2));
  EXPECT_REFUSED(verified, signature_threshold);
}

TEST(Verify, Names_the_trusted_key_whose_signature_is_bad_before_the_threshold) {
  const PrivateKey a = make_key();
  const PrivateKey b = make_key();
  json tree = json::parse(signed_by({&a, &b}));
  tree["signatures"][1]["sig"] = base64_encode(std::string(64, 'x'));
  const TrustSet trust = trusting({half_of(a, "a"), half_of(b, "b")}, 2);
  const auto verified = verify_envelope(tree.dump(), trust);
  EXPECT_REFUSED(verified, signature_invalid);
  EXPECT_NE(verified.error().message().find("'b'"), std::string::npos);
}

// DSSE: a signature that doesn't hold is skipped, so one can't be spoilt by adding another.
TEST(Verify, Is_not_spoilt_by_a_bad_signature_beside_enough_good_ones) {
  const PrivateKey a = make_key();
  const PrivateKey b = make_key();
  json tree = json::parse(signed_by({&a, &b}));
  tree["signatures"][0]["sig"] = "";
  const auto verified = verify_envelope(tree.dump(), trusting({half_of(a), half_of(b)}));
  ASSERT_TRUE(verified) << verified.error().line();
  EXPECT_EQ(verified->signed_by.size(), 1U);
}

TEST(Verify, Refuses_another_payload_type_before_it_looks_at_signatures) {
  const PrivateKey key = make_key();
  const auto verified = verify_envelope(
      signed_text("application/json", make_statement(shop()), key), trusting({half_of(key)}));
  EXPECT_REFUSED(verified, payload_type_wrong);
  EXPECT_EQ(verified.error().expected(), "payloadType application/vnd.in-toto+json");
  EXPECT_EQ(verified.error().got(), "application/json");
}

TEST(Verify, Binds_the_signature_to_the_payload_type) {
  const PrivateKey key = make_key();
  json tree = json::parse(signed_text("application/json", make_statement(shop()), key));
  tree["payloadType"] = kPayloadType;
  EXPECT_REFUSED(verify_envelope(tree.dump(), trusting({half_of(key)})), signature_invalid);
}

TEST(Verify, Reads_the_statement_only_after_the_signatures) {
  const PrivateKey key = make_key();
  const std::string nonsense = signed_text(kPayloadType, "nonsense", key);
  EXPECT_REFUSED(verify_envelope(nonsense, trusting({half_of(make_key())})), signature_unknown_key);
  EXPECT_REFUSED(verify_envelope(nonsense, trusting({half_of(key)})), statement_invalid);
}

TEST(Verify, Refuses_a_predicate_that_is_not_ours_though_well_signed) {
  const PrivateKey key = make_key();
  json tree = json::parse(make_statement(shop()));
  tree["predicateType"] = "https://example.com/other";
  EXPECT_REFUSED(
      verify_envelope(signed_text(kPayloadType, tree.dump(), key), trusting({half_of(key)})),
      predicate_wrong);
}

TEST(Verify, Never_accepts_a_threshold_below_one) {
  const PrivateKey key = make_key();
  for (const int threshold : {0, -1})
    EXPECT_REFUSED(verify_envelope(signed_by({&key}), trusting({half_of(key)}, threshold)),
                   config_invalid);
}

TEST(Verify, Does_not_take_one_algorithms_signature_for_the_others) {
  const PrivateKey ed = make_key(KeyType::ed25519);
  const PrivateKey ec = make_key(KeyType::ecdsa_p256);
  const std::string signature = ed.sign("text").value();
  EXPECT_TRUE(signature_fits(half_of(ed), "text", signature));
  EXPECT_FALSE(signature_fits(half_of(ec), "text", signature));
  EXPECT_FALSE(signature_fits(PublicKey{}, "text", signature));
  EXPECT_FALSE(signature_fits(half_of(ed), "text", ""));
}

}  // namespace
}  // namespace updagent::trust
