// One run of the command line: global options, and where answers go. stdout carries the answer,
// stderr everything else; --json prints exactly one document (or JSON Lines), on failure too.
#pragma once

#include <spdlog/logger.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/base/interrupt.hpp"
#include "agent/config/settings.hpp"
#include "agent/deploy/deployment.hpp"
#include "cli/lossy_output.hpp"

namespace updagent::cli {

using Json = nlohmann::ordered_json;

struct GlobalOptions {
  std::optional<std::string> root;
  std::optional<std::string> config_file;
  std::vector<std::string> trust;
  bool json = false;
  bool quiet = false;
  bool no_color = false;
  std::string log_level = "info";
};

class Session {
 public:
  Session(GlobalOptions options, base::Interrupt* interrupt);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const GlobalOptions& options() const { return options_; }
  const config::Layout& layout() const { return layout_; }
  base::Interrupt* interrupt() const { return interrupt_; }
  bool json() const { return options_.json; }

  // The answer. In --json mode print() is silent and document() prints; otherwise the reverse.
  void print(std::string_view text);    // a line of the answer, as it is
  void document(const Json& document);  // "api":1 is added
  void raw(std::string_view bytes);     // the answer in either mode (PAE, JSON Lines)
  // Nobody gets the answer: what is left of it need not be made.
  bool answer_failed() const { return out_error_ != 0; }
  // The end of a command that failed: message and hint on stderr, or the JSON error document.
  base::Exit fail(const base::Error& error, Json document = Json::object());
  // A deployment has ended, and its end is the exit status whatever becomes of the answer.
  void deployment_ended() { deployment_ended_ = true; }
  // The exit status of the process: an answer that could not be written is a failure.
  base::Exit finish(base::Exit exit);

  void note(std::string_view line);     // stderr, not with --quiet
  void warning(std::string_view line);  // stderr
  // stderr for all that is said while something is under way: never waits for a reader.
  LossyOutput& err() { return err_; }

  // Colour for people: the text as it is when stdout is no terminal, with --no-color or NO_COLOR.
  std::string bold(std::string_view text) const;
  std::string dim(std::string_view text) const;
  std::string good(std::string_view text) const;
  std::string bad(std::string_view text) const;
  bool terminal_out() const { return terminal_out_; }
  bool terminal_err() const { return terminal_err_; }
  bool color_err() const { return color_err_; }

  base::Result<config::Settings> settings(const std::string& app = "") const;
  // For apply, rollback, recover: actor, guardian, trust. `observer` outlives the context.
  deploy::Context deploy_context(deploy::Observer& observer, std::string actor = "") const;

 private:
  std::string paint(std::string_view text, std::string_view code) const;
  void write_out(std::string_view text);

  GlobalOptions options_;
  config::Layout layout_;
  base::Interrupt* interrupt_;
  LossyOutput err_;
  std::shared_ptr<spdlog::logger> log_;
  int out_error_ = 0;  // errno of the first write to stdout that failed
  bool deployment_ended_ = false;
  bool terminal_out_;
  bool terminal_err_;
  bool color_out_;
  bool color_err_;
};

// "uid=1000 login=kai", with the user behind sudo where there is one.
std::string actor_of_this_process();
Json error_json(const base::Error& error);

}  // namespace updagent::cli
