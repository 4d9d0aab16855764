// version and help.
#include <archive.h>
#include <curl/curl.h>
#include <openssl/crypto.h>
#include <sqlite3.h>
#include <zstd.h>

#include <memory>
#include <string>
#include <vector>

#include "agent/base/text.hpp"
#include "agent/journal/journal.hpp"
#include "agent/release/manifest.hpp"
#include "cli/verbs.hpp"
#include "schema/embedded.hpp"

namespace updagent::cli {

using base::Code;
using base::Error;
using base::Exit;

Run setup_version(CLI::App&) {
  return [](Session& session) {
    const Json libraries = {{"libcurl", curl_version_info(CURLVERSION_NOW)->version},
                            {"openssl", OpenSSL_version(OPENSSL_VERSION_STRING)},
                            {"libarchive", archive_version_details()},
                            {"sqlite", sqlite3_libversion()},
                            {"zstd", ZSTD_versionString()}};
    const std::vector<std::string> strategies = {std::string(release::kStrategyFiles),
                                                 std::string(release::kStrategyHandoff),
                                                 std::string(release::kStrategyRestart)};
    session.document({{"version", UPDAGENT_VERSION},
                      {"manifest_schema", release::kManifestSchema},
                      {"database_schema", schema::migrations().back().version},
                      {"strategies", strategies},
                      {"libraries", libraries}});
    session.print("updagent " UPDAGENT_VERSION);
    session.print("manifest schema " + std::to_string(release::kManifestSchema) +
                  ", database schema " + std::to_string(schema::migrations().back().version) +
                  ", strategies: " + base::join(strategies, " "));
    for (const auto& [name, version] : libraries.items())
      session.print("  " + name + " " + version.get<std::string>());
    return Exit::done;
  };
}

namespace {

// Text for people, or as the one field of a document.
Exit answer(Session& session, const std::string& text) {
  session.document({{"text", text}});
  if (!session.json()) session.raw(text);
  return Exit::done;
}

}  // namespace

Run setup_help(CLI::App& command) {
  struct HelpOptions {
    std::string verb;
    std::string subcommand;
    bool man = false;
    bool completion = false;
  };
  const auto options = std::make_shared<HelpOptions>();
  command.add_option("VERB", options->verb, "the verb to explain");
  command.add_option("SUBCOMMAND", options->subcommand, "only this one of the verb's");
  command.add_flag("--man", options->man, "the man page, as troff");
  command.add_flag("--completion", options->completion, "completion for bash");
  return [options](Session& session) {
    if (options->man || options->completion)
      return answer(session, options->man ? man_page() : bash_completion());
    if (options->verb.empty()) return answer(session, overview(session));
    const std::string help = verb_help(options->verb, options->subcommand);
    if (!help.empty()) return answer(session, help);
    std::vector<std::string> names;
    for (const Verb& verb : verbs()) names.emplace_back(verb.name);
    Error error(Code::usage, "there is no verb '" + options->verb + "'");
    if (const auto near = base::nearest(options->verb, names))
      return session.fail(std::move(error).hint("did you mean '" + *near + "'?"));
    return session.fail(std::move(error).hint("updagent help"));
  };
}

}  // namespace updagent::cli
