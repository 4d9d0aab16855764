#include <nlohmann/json.hpp>

#include "agent/trust/base64.hpp"
#include "tests/unit/trust/support.hpp"

namespace updagent::trust {
namespace {

using nlohmann::json;
using namespace test;

std::string envelope_with(const std::string& payload, const std::string& signatures) {
  return R"({"payload":")" + payload + R"(","payloadType":"x","signatures":)" + signatures + "}";
}

TEST(Pae, Is_the_one_of_the_specification) {
  EXPECT_EQ(pae("http://example.com/HelloWorld", "hello world"),
            "DSSEv1 29 http://example.com/HelloWorld 11 hello world");
}

TEST(Pae, Counts_bytes_not_characters) {
  EXPECT_EQ(pae("", ""), "DSSEv1 0  0 ");
  EXPECT_EQ(pae("é", std::string("\0a", 2)), std::string("DSSEv1 2 é 2 \0a", 16));
}

TEST(Envelope, Of_the_specification_is_read) {
  const auto envelope = parse_envelope(R"({"payload": "aGVsbG8gd29ybGQ=",
 "payloadType": "http://example.com/HelloWorld",
 "signatures": [{"sig": "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="}]})");
  ASSERT_TRUE(envelope) << envelope.error().line();
  EXPECT_EQ(envelope->payload, "hello world");
  EXPECT_EQ(envelope->payload_type, "http://example.com/HelloWorld");
  ASSERT_EQ(envelope->signatures.size(), 1U);
  EXPECT_EQ(envelope->signatures[0].key_id, "");
  EXPECT_EQ(envelope->signatures[0].bytes.size(), 64U);
}

TEST(Envelope, Reads_url_safe_base64) {
  const auto envelope = parse_envelope(envelope_with("-_-_", R"([{"sig":"_w=="}])"));
  ASSERT_TRUE(envelope) << envelope.error().line();
  EXPECT_EQ(envelope->payload, "\xfb\xff\xbf");
  EXPECT_EQ(envelope->signatures[0].bytes, "\xff");
}

TEST(Envelope, Ignores_fields_that_DSSE_does_not_name) {
  const auto envelope = parse_envelope(
      R"({"payload":"","payloadType":"x","more":{"a":[1]},"signatures":[{"sig":"","cert":"c"}]})");
  ASSERT_TRUE(envelope) << envelope.error().line();
}

TEST(Envelope, Without_signatures_can_be_read_for_inspect) {
  EXPECT_TRUE(parse_envelope(envelope_with("", "[]")));
}

TEST(Envelope, Of_another_shape_is_refused) {
  const std::vector<std::string> bad = {
      "",
      "null",
      "[]",
      "\"text\"",
      "{}",
      R"({"payload":"","payloadType":"x"})",
      R"({"payload":"","signatures":[]})",
      R"({"payloadType":"x","signatures":[]})",
      R"({"payload":1,"payloadType":"x","signatures":[]})",
      R"({"payload":"","payloadType":null,"signatures":[]})",
      envelope_with("", "{}"),
      envelope_with("", "null"),
      envelope_with("", "[1]"),
      envelope_with("", "[{}]"),
      envelope_with("", R"([{"sig":5}])"),
      envelope_with("", R"([{"sig":"", "keyid":5}])"),
      envelope_with("not base64!", "[]"),
      envelope_with("Zg", "[]"),
      envelope_with("", R"([{"sig":"*"}])"),
      R"({"payload":"","payload":"","payloadType":"x","signatures":[]})",
      R"({"payload":"","payloadType":"x","signatures":[]} )"
      "x",
      "\xEF\xBB\xBF" + envelope_with("", "[]"),
      R"({"payload":"","payloadType":"x","signatures":[],"n":1.5})",
      R"({"payload":"","payloadType":"x","signatures":[],"n":9007199254740993})",
  };
  for (const std::string& text : bad) {
    const auto envelope = parse_envelope(text);
    ASSERT_FALSE(envelope) << text;
    EXPECT_EQ(envelope.error().code(), base::Code::envelope_invalid) << text;
  }
}

TEST(Envelope, Says_what_it_expected_and_what_it_got) {
  const auto envelope = parse_envelope(envelope_with("", R"([{"sig":5}])"));
  EXPECT_REFUSED(envelope, envelope_invalid);
  EXPECT_EQ(envelope.error().expected(), "a string");
  EXPECT_EQ(envelope.error().got(), "number");
}

TEST(Envelope, Has_at_most_16_signatures) {
  json list = json::array();
  for (std::size_t i = 0; i < kMaxSignatures; ++i) list.push_back({{"sig", ""}});
  EXPECT_TRUE(parse_envelope(envelope_with("", list.dump())));
  list.push_back({{"sig", ""}});
  const auto envelope = parse_envelope(envelope_with("", list.dump()));
  EXPECT_REFUSED(envelope, envelope_invalid);
  EXPECT_EQ(envelope.error().expected(), "at most 16");
  EXPECT_EQ(envelope.error().got(), "17");
}

TEST(Envelope, Has_at_most_64_KiB) {
  const std::string empty = envelope_with("", "[]");
  const std::string padding(kMaxEnvelopeBytes - empty.size(), ' ');
  EXPECT_TRUE(parse_envelope(empty + padding));
  const auto envelope = parse_envelope(empty + padding + " ");
  EXPECT_REFUSED(envelope, envelope_invalid);
  EXPECT_EQ(envelope.error().expected(), "at most 65536 bytes");
  EXPECT_EQ(envelope.error().got(), "65537");
}

TEST(Envelope, Has_a_bounded_key_id) {
  const std::string id(kMaxKeyIdBytes + 1, 'a');
  EXPECT_REFUSED(parse_envelope(envelope_with("", R"([{"sig":"","keyid":")" + id + R"("}])")),
                 envelope_invalid);
}

TEST(Envelope, That_we_make_is_exactly_the_documented_text) {
  const PrivateKey key = make_key();
  const auto made = make_envelope(shop(), {&key});
  ASSERT_TRUE(made) << made.error().line();
  const std::string payload = make_statement(shop());
  const std::string signature = key.sign(pae(kPayloadType, payload)).value();  // deterministic
  EXPECT_EQ(*made,
            R"({"payload":")" + base64_encode(payload) +
                R"(","payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":")" +
                half_of(key).key_id + R"(","sig":")" + base64_encode(signature) + R"("}]})");
}

}  // namespace
}  // namespace updagent::trust
