// schema/manifest.schema.json against the writer and against the reader: what one takes the other
// takes. Python's jsonschema is the judge.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "agent/release/manifest.hpp"
#include "support.hpp"

namespace updagent::release {
namespace {

using testing::parse;
using testing::text_with;
using testing::text_with_entries;

constexpr const char* kJudge = R"py(
import json, sys
from jsonschema import Draft202012Validator
schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
wrong = 0
for name in sys.argv[3:]:
    errors = [e.json_path + ": " + e.message[:300] for e in validator.iter_errors(json.load(open(name)))]
    if bool(errors) == (sys.argv[2] == "valid"):
        print(open(name).read()[-400:], errors or "no error", sep="\n")
        wrong += 1
sys.exit(1 if wrong else 0)
)py";

class ManifestSchema : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "updagent-schema-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    std::ofstream(folder_ / "judge.py") << kJudge;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // All texts are `verdict` ("valid" or "invalid") by the schema.
  void expect_all(const std::vector<std::string>& texts, const std::string& verdict) {
    std::string command = UPDAGENT_PYTHON " '" + (folder_ / "judge.py").string() +
                          "' '" UPDAGENT_SOURCE_DIR "/schema/manifest.schema.json' " + verdict;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const auto path = folder_ / (std::to_string(i) + ".json");
      std::ofstream(path) << texts[i];
      command += " '" + path.string() + '\'';
    }
    EXPECT_EQ(std::system(command.c_str()), 0) << "see above: these should be " << verdict;
  }

 private:
  std::filesystem::path folder_;
};

TEST_F(ManifestSchema, Takes_what_the_writer_writes) {
  expect_all({testing::write(testing::full_manifest()), testing::write(testing::small_manifest())},
             "valid");
}

TEST_F(ManifestSchema, Takes_the_edges_that_the_reader_takes) {
  const std::vector<std::string> texts = {
      text_with(R"("hooks":{},"probes":[],"requires":{},"service":{"environment":{}},"source":{})"),
      text_with(R"("retention":{"keep":1000},"rollout":{"watch_ms":86400000})"),
      text_with(R"("hooks":{"pre_upgrade":{"command":["x",""],"timeout_ms":86400000}})"),
      text_with(R"("requires":{"agent":"1.0.0","arch":"aarch64","rollback_floor":"1.4.2-rc.1+b"})"),
      text_with_entries(R"({"mode":"0500","mtime":8589934591,"path":"...","type":"directory"})"),
      text_with_entries(
          R"({"mode":"0777","mtime":0,"path":"l","target":"a/./..//b","type":"symlink"})"),
  };
  for (const std::string& text : texts) EXPECT_OK(parse(text));
  expect_all(texts, "valid");
}

TEST_F(ManifestSchema, Refuses_what_the_reader_refuses) {
  const auto entry = [](std::string_view row) { return text_with_entries(row); };
  const std::string probe =
      R"("failures":3,"initial_delay_ms":0,"interval_ms":1,"name":"p","successes":1,"timeout_ms":1)";
  const std::vector<std::string> texts = {
      "[]",
      text_with(R"("extra":1)"),
      text_with(R"("builder":"a\nb")"),
      text_with(R"("builder":1)"),
      text_with(R"("retention":{"keep":0})"),
      text_with(R"("retention":{})"),
      text_with(R"("rollout":{"watch_ms":86400001})"),
      text_with(R"("rollout":{"steps":[1]})"),
      text_with(R"("service":{"command":["x"]})"),
      text_with(R"("service":{"user":"0"})"),
      text_with(R"("service":{"environment":{"A-B":"x"}})"),
      text_with(R"("service":{"environment":{"A":"x\u0000"}})"),
      text_with(R"("source":{"url":"x"})"),
      text_with(R"("requires":{"rollback_floor":"1.0"})"),
      text_with(R"("hooks":{"pre_upgrade":{"command":[],"timeout_ms":1}})"),
      text_with(R"("hooks":{"pre_upgrade":{"command":[""],"timeout_ms":1}})"),
      text_with(R"("hooks":{"pre_upgrade":{"command":["a\u0000"],"timeout_ms":1}})"),
      text_with(R"("hooks":{"pre_upgrade":{"command":["x"],"timeout_ms":0}})"),
      text_with(R"("hooks":{"other":{"command":["x"],"timeout_ms":1}})"),
      text_with(R"("probes":[{"type":"exec","command":["x"],"url":"http://h/",)" + probe + "}]"),
      text_with(R"("probes":[{"type":"http","url":"ftp://h/","expect_status":["200"],)" + probe +
                "}]"),
      text_with(R"("probes":[{"type":"http","url":"http://u@h/","expect_status":["200"],)" + probe +
                "}]"),
      text_with(R"("probes":[{"type":"http","url":"http://h/","expect_status":["2xx"],)" + probe +
                "}]"),
      text_with(R"("probes":[{"type":"http","url":"http://h/","expect_status":[],)" + probe + "}]"),
      text_with(R"("probes":[{"type":"tcp","address":"h",)" + probe + "}]"),
      text_with(R"("probes":[{"type":"udp","address":"h:1",)" + probe + "}]"),
      text_with(R"("probes":[{"type":"tcp","address":"h:1"}])"),
      entry("1"),
      entry("{}"),
      entry(R"({"mode":"0755","mtime":1,"path":"/d","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":1,"path":"d/","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":1,"path":"..","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":1,"path":"a/./b","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":1,"path":"a//b","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":1,"path":"a\u001bb","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":1,"path":".updagent","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":1,"path":"","type":"directory"})"),
      entry(R"({"mode":"4755","mtime":1,"path":"d","type":"directory"})"),
      entry(R"({"mode":"0455","mtime":1,"path":"d","type":"directory"})"),
      entry(R"({"mode":"755","mtime":1,"path":"d","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":-1,"path":"d","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":8589934592,"path":"d","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":1,"path":"d","type":"fifo"})"),
      entry(R"({"mode":"0755","mtime":1,"path":"d","type":"directory","size":0})"),
      entry(R"({"mode":"0644","mtime":1,"path":"f","type":"file","size":1})"),
      entry(R"({"mode":"0644","mtime":1,"path":"f","type":"file","size":1,"sha256":"00"})"),
      entry(R"({"mode":"0755","mtime":1,"path":"l","target":"x","type":"symlink"})"),
      entry(R"({"mode":"0777","mtime":1,"path":"l","target":"/x","type":"symlink"})"),
      entry(R"({"mode":"0777","mtime":1,"path":"l","target":"","type":"symlink"})"),
      entry(R"({"mode":"0644","mtime":1,"path":"h","target":"../x","type":"hardlink"})"),
  };
  for (const std::string& text : texts) EXPECT_FALSE(parse(text).has_value()) << text;
  expect_all(texts, "invalid");
}

}  // namespace
}  // namespace updagent::release
