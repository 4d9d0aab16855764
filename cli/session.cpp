#include "cli/session.hpp"

#include <pwd.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "agent/base/identity.hpp"
#include "agent/base/text.hpp"

namespace updagent::cli {
namespace {

bool colors_wanted(const GlobalOptions& options, bool terminal) {
  const char* no_color = std::getenv("NO_COLOR");  // https://no-color.org
  const char* term = std::getenv("TERM");
  const bool dumb = term == nullptr || std::string_view(term) == "dumb";
  return terminal && !options.no_color && !dumb && (no_color == nullptr || *no_color == '\0');
}

}  // namespace

Session::Session(GlobalOptions options, base::Interrupt* interrupt)
    : options_(std::move(options)),
      layout_(config::Layout::for_root(options_.root, options_.config_file)),
      interrupt_(interrupt),
      err_(STDERR_FILENO),
      terminal_out_(::isatty(STDOUT_FILENO) == 1),
      terminal_err_(::isatty(STDERR_FILENO) == 1),
      color_out_(colors_wanted(options_, terminal_out_)),
      color_err_(colors_wanted(options_, terminal_err_)) {
  log_ = std::make_shared<spdlog::logger>("updagent", lossy_sink(err_));
  log_->set_pattern(color_err_ ? "\x1b[33m%l:\x1b[0m %v" : "%l: %v");
  log_->set_level(spdlog::level::from_str(options_.log_level));
}

Session::~Session() = default;

void Session::write_out(std::string_view text) {
  if (out_error_ != 0) return;
  errno = 0;
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (!written || std::fflush(stdout) != 0) out_error_ = errno == 0 ? EIO : errno;
}

void Session::print(std::string_view text) {
  if (!options_.json) write_out(std::string(text) + "\n");
}

void Session::document(const Json& document) {
  if (!options_.json) return;
  Json whole = {{"api", 1}};
  whole.update(document);
  // on a terminal: \\u for what could drive it, which is the same JSON
  write_out(whole.dump(2, ' ', terminal_out_, Json::error_handler_t::replace) + "\n");
}

void Session::raw(std::string_view bytes) {
  write_out(bytes);
}

base::Exit Session::finish(base::Exit exit) {
  // `| head` took what it wanted
  if (out_error_ == 0 || out_error_ == EPIPE) return exit;
  const std::string problem = std::string("the answer could not be written to standard output: ") +
                              std::strerror(out_error_);
  if (exit != base::Exit::done || deployment_ended_) {
    warning(problem);
    return exit;
  }
  err_.last_words("updagent: " + problem + "\n");
  return base::Exit::failed;
}

Json error_json(const base::Error& error) {
  return {{"code", error.code_name()},
          {"message", error.line()},
          {"expected", error.expected()},
          {"got", error.got()},
          {"hint", error.hint()}};
}

base::Exit Session::fail(const base::Error& error, Json document) {
  if (options_.json) {
    document["error"] = error_json(error);
    this->document(document);
  } else {
    const std::string head = color_err_ ? "\x1b[1;31mupdagent:\x1b[0m " : "updagent: ";
    err_.last_words(head + error.line() + "\n");
    if (!error.hint().empty())
      err_.last_words("  -> " + base::printable(error.hint(), true) + "\n");
  }
  return error.exit();
}

void Session::note(std::string_view line) {
  if (!options_.quiet) log_->info("{}", base::printable(line));
}

void Session::warning(std::string_view line) {
  log_->warn("{}", base::printable(line));
}

std::string Session::paint(std::string_view text, std::string_view code) const {
  if (!color_out_) return std::string(text);
  return "\x1b[" + std::string(code) + "m" + std::string(text) + "\x1b[0m";
}

std::string Session::bold(std::string_view text) const {
  return paint(text, "1");
}
std::string Session::dim(std::string_view text) const {
  return paint(text, "2");
}
std::string Session::good(std::string_view text) const {
  return paint(text, "32");
}
std::string Session::bad(std::string_view text) const {
  return paint(text, "31");
}

base::Result<config::Settings> Session::settings(const std::string& app) const {
  return config::load(layout_, options_.config_file, app);
}

deploy::Context Session::deploy_context(deploy::Observer& observer, std::string actor) const {
  deploy::Context context;
  context.layout = layout_;
  context.config_file = options_.config_file;
  context.trust_override = options_.trust;
  context.actor = actor.empty() ? actor_of_this_process() : std::move(actor);
  context.interrupt = interrupt_;
  context.observer = &observer;
  context.guardian_command = {"updagent"};
  if (options_.root) {
    context.guardian_command.emplace_back("--root");
    context.guardian_command.push_back(layout_.state);
  }
  if (options_.config_file) {
    context.guardian_command.emplace_back("--config");
    context.guardian_command.push_back(*options_.config_file);
  }
  context.guardian_command.insert(context.guardian_command.end(), {"recover", "--as", "guardian"});
  return context;
}

std::string actor_of_this_process() {
  std::string actor = "uid=" + std::to_string(::getuid());
  const base::Identity self = base::own_identity();
  if (!self.user.empty()) actor += " login=" + self.user;
  if (const char* sudo = std::getenv("SUDO_USER"); sudo != nullptr && *sudo != '\0')
    actor += " sudo=" + base::printable(std::string_view(sudo).substr(0, LOGIN_NAME_MAX));
  return actor;
}

}  // namespace updagent::cli
