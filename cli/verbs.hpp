// The command line as data: one row per verb gives dispatch, help, man page, completion and the
// list of exit codes. Each verb stands in a file of its own.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "cli/session.hpp"

namespace updagent::cli {

using Run = std::function<base::Exit(Session&)>;

struct Verb {
  std::string_view name;
  std::string_view group;    // of the overview: "Make releases", "Deploy", "Look", "Trust", "Node"
  std::string_view summary;  // one line
  std::string_view details;  // for the man page and --help: what it promises, an example
  std::vector<base::Exit> exits;
  bool takes_signals;  // ^C and SIGTERM are its own (drivers); otherwise they just end it
  // Declares the options on the subcommand; what it returns runs after parsing.
  Run (*setup)(CLI::App& command);
};

std::span<const Verb> verbs();

Run setup_keygen(CLI::App& command);
Run setup_pack(CLI::App& command);
Run setup_sign(CLI::App& command);
Run setup_inspect(CLI::App& command);
Run setup_verify(CLI::App& command);
Run setup_trust(CLI::App& command);
Run setup_apply(CLI::App& command);
Run setup_rollback(CLI::App& command);
Run setup_deployment(CLI::App& command);
Run setup_recover(CLI::App& command);
Run setup_hold(CLI::App& command);
Run setup_remove(CLI::App& command);
Run setup_status(CLI::App& command);
Run setup_releases(CLI::App& command);
Run setup_supervise(CLI::App& command);
Run setup_start(CLI::App& command);
Run setup_stop(CLI::App& command);
Run setup_restart(CLI::App& command);
Run setup_adopt(CLI::App& command);
Run setup_probe_connect(CLI::App& command);
Run setup_log(CLI::App& command);
Run setup_doctor(CLI::App& command);
Run setup_version(CLI::App& command);
Run setup_help(CLI::App& command);

// Of every verb, before or after it.
void add_global_options(CLI::App& app, GlobalOptions& options);

// Help texts made from the table.
std::string overview(const Session& session);
// Of the verb with all its subcommands, or of one of them; "" if there is no such verb.
std::string verb_help(const std::string& name, const std::string& subcommand = "");
std::string man_page();  // troff, for updagent(1)
std::string bash_completion();

// Duration options: "30s"; refused by CLI11 with what was expected.
extern const CLI::Validator kDurationText;
base::Milliseconds duration_of(const std::string& checked_text);

}  // namespace updagent::cli
