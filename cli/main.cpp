// Parses the command line by the table in verbs.cpp and runs one verb.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <optional>

#include "agent/base/interrupt.hpp"
#include "agent/base/text.hpp"
#include "cli/verbs.hpp"

namespace {

using updagent::base::Exit;
using updagent::cli::GlobalOptions;
using updagent::cli::Session;
using updagent::cli::Verb;

int number(Exit exit) {
  return static_cast<int>(exit);
}

void add_global_options(CLI::App& app, GlobalOptions& options) {
  app.add_option("--root", options.root, "another root folder (default /var/lib/updagent)")
      ->type_name("DIR");
  app.add_option("--config", options.config_file, "another node.toml")->type_name("FILE");
  app.add_option("--trust", options.trust, "trust these keys instead of trust.d, for this command")
      ->type_name("KEY|DIR")
      ->allow_extra_args(false);
  app.add_flag("--json", options.json, "print one JSON document (JSON Lines for log)");
  app.add_flag("--quiet,-q", options.quiet, "no progress, no notes");
  app.add_flag("--no-color", options.no_color, "no colours");
  app.add_option("--log-level", options.log_level, "of stderr")
      ->type_name("L")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
}

void make_root_absolute(GlobalOptions& options) {
  if (!options.root) return;
  std::error_code ignored;
  const auto absolute = std::filesystem::absolute(*options.root, ignored).lexically_normal();
  std::string text = absolute.string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  options.root = text;
}

// The first word that is neither an option nor the value of one.
std::optional<std::string> verb_word(const std::vector<std::string>& words) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--root" || word == "--config" || word == "--trust" || word == "--log-level") {
      ++i;
    } else if (!word.starts_with("-")) {
      return word;
    }
  }
  return std::nullopt;
}

// Before parsing: what else is missing doesn't matter to someone who asks for help.
bool asks_for_help(const std::vector<std::string>& words) {
  return std::any_of(words.begin(), words.end(),
                     [](const std::string& word) { return word == "--help" || word == "-h"; });
}

// CLI11's own words, made ours: one line, and what now.
Exit usage_error(const GlobalOptions& options, const CLI::App& app, const CLI::ParseError& problem,
                 const std::vector<std::string>& words) {
  Session session(options, nullptr);
  std::vector<std::string> names;
  for (const Verb& verb : updagent::cli::verbs()) names.emplace_back(verb.name);
  const auto selected = app.get_subcommands();
  std::string hint =
      selected.empty() ? "updagent help" : "updagent help " + selected.front()->get_name();
  std::string message = problem.what();
  if (selected.empty()) {
    const auto word = verb_word(words);
    if (word && std::find(names.begin(), names.end(), *word) == names.end()) {
      message = "there is no verb '" + *word + "'";
      if (const auto near = updagent::base::nearest(*word, names))
        message += ", did you mean '" + *near + "'?";
    }
  }
  return session.fail(
      updagent::base::Error(updagent::base::Code::usage, message).hint(hint + " explains"));
}

Exit run_verb(const Verb& verb, const GlobalOptions& options, const updagent::cli::Run& run) {
  if (!verb.takes_signals) {
    Session session(options, nullptr);
    return run(session);
  }
  auto interrupt = updagent::base::Interrupt::install();
  if (!interrupt) {
    Session session(options, nullptr);
    return session.fail(interrupt.error());
  }
  Session session(options, &*interrupt);
  return run(session);
}

int run_command_line(int argc, char** argv) {
  GlobalOptions options;
  CLI::App app("updagent", "updagent");
  app.set_help_flag();
  app.set_version_flag("--version", "updagent " UPDAGENT_VERSION);
  bool help = false;
  app.add_flag("-h,--help", help, "this overview");
  add_global_options(app, options);
  app.fallthrough();
  std::map<std::string, updagent::cli::Run> runs;
  for (const Verb& verb : updagent::cli::verbs()) {
    CLI::App* command = app.add_subcommand(std::string(verb.name), std::string(verb.summary));
    command->footer(std::string(verb.details));
    command->fallthrough();
    runs[std::string(verb.name)] = verb.setup(*command);
  }
  app.require_subcommand(0, 1);
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (const auto verb = verb_word(words); verb && asks_for_help(words) && runs.contains(*verb)) {
    std::fputs(updagent::cli::verb_help(*verb).c_str(), stdout);
    return number(Exit::done);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& wanted) {
    return app.exit(wanted);
  } catch (const CLI::CallForVersion& wanted) {
    return app.exit(wanted);
  } catch (const CLI::ParseError& problem) {
    options.json = options.json || std::find(words.begin(), words.end(), "--json") != words.end();
    return number(usage_error(options, app, problem, words));
  }
  make_root_absolute(options);
  const auto selected = app.get_subcommands();
  if (selected.empty()) {
    const Session session(options, nullptr);
    std::fputs(updagent::cli::overview(session).c_str(), help ? stdout : stderr);
    return number(help ? Exit::done : Exit::usage);
  }
  for (const Verb& verb : updagent::cli::verbs())
    if (verb.name == selected.front()->get_name())
      return number(run_verb(verb, options, runs[std::string(verb.name)]));
  return number(Exit::usage);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run_command_line(argc, argv);
  } catch (const std::exception& problem) {
    // nothing of ours throws: memory ran out, or a library did what it should not
    std::fprintf(stderr, "updagent: unexpected: %s\n", problem.what());
    return number(Exit::failed);
  }
}
