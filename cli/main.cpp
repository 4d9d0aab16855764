// Parses the command line by the table in verbs.cpp and runs one verb.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>

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

void make_root_absolute(GlobalOptions& options) {
  if (!options.root) return;
  std::error_code ignored;
  const auto absolute = std::filesystem::absolute(*options.root, ignored).lexically_normal();
  std::string text = absolute.string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  options.root = text;
}

// The words that are neither an option of every verb nor the value of one: the verb, and what
// follows it.
std::vector<std::string> verb_words(const std::vector<std::string>& words) {
  std::vector<std::string> found;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--root" || word == "--config" || word == "--trust" || word == "--log-level") {
      ++i;
    } else if (!word.starts_with("-")) {
      found.push_back(word);
    }
  }
  return found;
}

// Before parsing: what else is missing doesn't matter to someone who asks for help.
bool says(const std::vector<std::string>& words, std::string_view one, std::string_view other) {
  return std::any_of(words.begin(), words.end(),
                     [&](const std::string& word) { return word == one || word == other; });
}

// Someone closed them: without this the next file that is opened would be standard input, and the
// database might become standard error.
void open_missing_standard_descriptors() {
  for (int standard = STDIN_FILENO; standard <= STDERR_FILENO; ++standard)
    if (::fcntl(standard, F_GETFD) < 0 && ::open("/dev/null", O_RDWR) != standard) ::_exit(1);
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
    const auto given = verb_words(words);
    if (!given.empty() && std::find(names.begin(), names.end(), given.front()) == names.end()) {
      message = "there is no verb '" + given.front() + "'";
      if (const auto near = updagent::base::nearest(given.front(), names))
        message += ", did you mean '" + *near + "'?";
    }
  }
  return session.fail(
      updagent::base::Error(updagent::base::Code::usage, message).hint(hint + " explains"));
}

Exit run_verb(const Verb& verb, const GlobalOptions& options, const updagent::cli::Run& run) {
  if (!verb.takes_signals) {
    Session session(options, nullptr);
    return session.finish(run(session));
  }
  auto interrupt = updagent::base::Interrupt::install();
  if (!interrupt) {
    Session session(options, nullptr);
    return session.fail(interrupt.error());
  }
  Session session(options, &*interrupt);
  return session.finish(run(session));
}

// --help and --version, whatever else was said.
Exit answer(const GlobalOptions& options, const std::string& text) {
  Session session(options, nullptr);
  session.document({{"text", text}});
  if (!session.json()) session.raw(text);
  return session.finish(Exit::done);
}

Exit no_verb(const GlobalOptions& options) {
  Session session(options, nullptr);
  if (options.json)
    return session.fail(updagent::base::Error(updagent::base::Code::usage, "no verb was given")
                            .hint("updagent help lists them"));
  session.err().last_words(updagent::cli::overview(session));
  return Exit::usage;
}

int run_command_line(int argc, char** argv) {
  GlobalOptions options;
  CLI::App app("updagent", "updagent");
  app.set_help_flag();
  bool help = false;
  bool version = false;
  app.add_flag("-h,--help", help, "this overview");
  app.add_flag("--version", version, "the version alone");
  updagent::cli::add_global_options(app, options);
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
  const std::vector<std::string> given = verb_words(words);
  const bool json = says(words, "--json", "--json");
  if (!given.empty() && says(words, "--help", "-h") && runs.contains(given.front())) {
    options.json = json;
    return number(
        answer(options, updagent::cli::verb_help(given.front(), given.size() > 1 ? given[1] : "")));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    options.json = options.json || json;
    return number(usage_error(options, app, problem, words));
  }
  make_root_absolute(options);
  const auto selected = app.get_subcommands();
  if (selected.empty() && version)
    return number(answer(options, "updagent " UPDAGENT_VERSION "\n"));
  if (selected.empty() && help)
    return number(answer(options, updagent::cli::overview(Session(options, nullptr))));
  if (selected.empty()) return number(no_verb(options));
  for (const Verb& verb : updagent::cli::verbs())
    if (verb.name == selected.front()->get_name())
      return number(run_verb(verb, options, runs[std::string(verb.name)]));
  return number(Exit::usage);
}

}  // namespace

int main(int argc, char** argv) {
  open_missing_standard_descriptors();
  try {
    return run_command_line(argc, argv);
  } catch (const std::exception& problem) {
    // nothing of ours throws: memory ran out, or a library did what it should not
    std::fprintf(stderr, "updagent: unexpected: %s\n", problem.what());
    return number(Exit::failed);
  }
}
