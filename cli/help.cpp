// Help, man page and completion, made from the table of verbs and the options they declare.
#include <algorithm>
#include <memory>

#include "cli/verbs.hpp"

namespace updagent::cli {
namespace {

using base::Exit;

std::string_view meaning(Exit exit) {
  switch (exit) {
    case Exit::done:
      return "done";
    case Exit::failed:
      return "failed: I/O, ^C, or an answer that could not be written";
    case Exit::usage:
      return "wrong usage or configuration";
    case Exit::refused:
      return "refused: the release, or its keys";
    case Exit::rolled_back:
      return "rolled back";
    case Exit::busy:
      return "another deployment of the app is running";
    case Exit::not_found:
      return "not found";
    case Exit::not_fetched:
      return "could not be fetched";
    case Exit::rollback_failed:
      return "a person is needed";
    case Exit::damaged:
      return "damage or tampering";
  }
  return "";
}

// The verb with its options and subcommands, parsed by nobody.
std::unique_ptr<CLI::App> declared(const Verb& verb) {
  auto app = std::make_unique<CLI::App>(std::string(verb.summary), std::string(verb.name));
  app->footer(std::string(verb.details));
  static_cast<void>(verb.setup(*app));
  // the verb's own end of the text is enough
  for (CLI::App* sub : app->get_subcommands([](CLI::App*) { return true; })) sub->footer("");
  return app;
}

std::vector<const CLI::App*> subcommands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

bool is_help(const CLI::Option& option) {
  return option.get_name() == "--help";
}

std::unique_ptr<CLI::App> globals(GlobalOptions& options) {
  auto app = std::make_unique<CLI::App>();
  app->set_help_flag();
  add_global_options(*app, options);
  return app;
}

std::string global_section() {
  GlobalOptions options;
  const auto app = globals(options);
  const CLI::Formatter formatter;
  std::string out = "\nOptions of every verb:\n";
  for (const CLI::Option* option : app->get_options()) out += formatter.make_option(option, false);
  return out;
}

std::string exit_section(const Verb& verb) {
  std::string out = "\nExit status (docs/exit-codes.md):\n";
  for (const Exit exit : verb.exits)
    out += "  " + std::to_string(static_cast<int>(exit)) + "  " + std::string(meaning(exit)) + "\n";
  return out;
}

// A line of troff text: what troff would take for itself is escaped.
std::string troff(std::string_view text) {
  std::string out;
  bool line_start = true;
  for (const char c : text) {
    if (line_start && (c == '.' || c == '\'')) out += "\\&";
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
    line_start = c == '\n';
  }
  return out;
}

std::string man_options(const CLI::App& app) {
  std::string out;
  for (const CLI::Option* option : app.get_options()) {
    if (is_help(*option)) continue;
    out += ".br\n\\fB" + troff(option->get_name(false, true)) + "\\fR";
    if (option->nonpositional() && option->get_type_size() > 0)
      out += " " + troff(option->get_type_name());
    out += ": " + troff(option->get_description());
    if (!option->get_default_str().empty())
      out += " (default " + troff(option->get_default_str()) + ")";
    out += "\n";
  }
  return out;
}

std::string option_words(const CLI::App& app) {
  std::string words;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) words += "--" + name + " ";
  return words;
}

}  // namespace

void add_global_options(CLI::App& app, GlobalOptions& options) {
  app.add_option("--root", options.root, "another root folder (default /var/lib/updagent)")
      ->type_name("DIR");
  app.add_option("--config", options.config_file,
                 "another node.toml; conf.d and apps.d are looked for beside it, trust.d is not")
      ->type_name("FILE");
  app.add_option("--trust", options.trust, "trust these keys instead of trust.d, for this command")
      ->type_name("KEY|DIR")
      ->allow_extra_args(false);
  app.add_flag("--json", options.json, "print one JSON document (JSON Lines for log)");
  app.add_flag("--quiet,-q", options.quiet, "no progress, no notes");
  app.add_flag("--no-color", options.no_color, "no colours");
  app.add_option("--log-level", options.log_level, "of stderr")
      ->type_name("L")
      ->capture_default_str()
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
}

std::string overview(const Session& session) {
  std::size_t longest = 0;
  for (const Verb& verb : verbs()) longest = std::max(longest, verb.name.size());
  std::string out =
      "updagent " UPDAGENT_VERSION
      ": signed releases, installed atomically, undone by themselves when they are bad\n\n"
      "usage: updagent [OPTIONS] VERB ...\n";
  for (const std::string_view group :
       {"Deploy", "Services", "Look", "Make releases", "Trust", "Node"}) {
    out += "\n" + session.bold(group) + "\n";
    for (const Verb& verb : verbs()) {
      if (verb.group != group) continue;
      std::string name(verb.name);
      name.resize(longest + 2, ' ');
      out += "  " + name + std::string(verb.summary) + "\n";
    }
  }
  return out + global_section() +
         "\nA first try: updagent keygen, pack, trust add, apply. Each verb explains itself: "
         "updagent help VERB\n";
}

std::string verb_help(const std::string& name, const std::string& subcommand) {
  for (const Verb& verb : verbs()) {
    if (verb.name != name) continue;
    const auto app = declared(verb);
    const std::string end = global_section() + exit_section(verb);
    std::string out = app->help("updagent");
    for (const CLI::App* sub : subcommands(*app)) {
      const std::string own = sub->help("updagent " + name);
      if (sub->get_name() == subcommand) return own + end;
      out += "\n";
      out += own;
    }
    return out + end;
  }
  return "";
}

std::string man_page() {
  GlobalOptions options;
  std::string out = ".TH UPDAGENT 1 \"\" \"updagent " UPDAGENT_VERSION
                    "\"\n.SH NAME\nupdagent \\- release agent for Linux nodes\n"
                    ".SH SYNOPSIS\n.B updagent\n[OPTIONS] VERB ...\n.SH OPTIONS\n"
                    "Before or after the verb.\n" +
                    man_options(*globals(options)) + ".SH VERBS\n";
  for (const Verb& verb : verbs()) {
    const auto command = declared(verb);
    out += ".TP\n.B " + std::string(verb.name) + "\n" + troff(verb.summary) + ".\n";
    if (!verb.details.empty()) out += troff(verb.details) + "\n";
    out += man_options(*command);
    for (const CLI::App* sub : subcommands(*command)) {
      out += ".TP\n.B " + std::string(verb.name) + " " + sub->get_name() + "\n" +
             troff(sub->get_description()) + ".\n" + man_options(*sub);
    }
    out += ".br\nExit status:";
    for (const Exit exit : verb.exits) out += " " + std::to_string(static_cast<int>(exit));
    out += "\n";
  }
  return out;
}

std::string bash_completion() {
  GlobalOptions options;
  const std::string global_words = option_words(*globals(options));
  std::string names;
  std::string pairs;
  std::string cases;
  const auto add = [&cases](const std::string& what, const std::string& words) {
    cases += "    '" + what + "') words=\"" + words + "\" ;;\n";
  };
  for (const Verb& verb : verbs()) {
    const std::string name(verb.name);
    const auto command = declared(verb);
    names += name + " ";
    std::string words = option_words(*command);
    for (const CLI::App* sub : subcommands(*command)) {
      words += sub->get_name() + " ";
      pairs += (pairs.empty() ? "'" : "|'") + name + " " + sub->get_name() + "'";
      add(name + " " + sub->get_name(), option_words(*sub));
    }
    add(name, words);
  }
  return "# bash completion for updagent; source it or put it into /etc/bash_completion.d\n"
         "_updagent() {\n"
         "  local verb= word words globals=\"" +
         global_words +
         "\"\n"
         "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
         "    if [ -z \"$verb\" ]; then\n"
         "      case \" " +
         names +
         "\" in *\" $word \"*) verb=$word ;; esac\n"
         "    else\n"
         "      case \"$verb $word\" in " +
         pairs +
         ") verb=\"$verb $word\"; break ;; esac\n"
         "    fi\n"
         "  done\n"
         "  case \"$verb\" in\n"
         "    '') words=\"" +
         names + "\" ;;\n" + cases +
         "  esac\n"
         "  COMPREPLY=($(compgen -W \"$words $globals\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
         "  [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "
         "\"${COMP_WORDS[COMP_CWORD]}\"))\n"
         "}\n"
         "complete -o filenames -F _updagent updagent\n";
}

}  // namespace updagent::cli
