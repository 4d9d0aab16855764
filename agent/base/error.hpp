// Errors are values with a stable code and context. Start here: every fallible function of the
// agent returns Result<T> or Status; nothing of ours throws, exceptions of libraries are caught
// where the library is called.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>
#include <vector>

namespace updagent::base {

// Process exit codes. A contract: docs/exit-codes.md explains each for operators.
enum class Exit : int {
  done = 0,
  failed = 1,           // nothing changed
  usage = 2,            // wrong usage or configuration of this node
  refused = 3,          // anything that is wrong with the release itself
  rolled_back = 4,      // the candidate was not good
  busy = 5,             // another deployment of this app is running
  not_found = 6,        // app, version, trace
  not_fetched = 7,      // what came is kept for resume
  rollback_failed = 8,  // a person is needed
  damaged = 9,          // damage or tampering found
};

// Stable codes: they appear in JSON and in the audit log. Append, never rename. The exit code and
// the meaning of each stand in one table, kCodes in error.cpp; docs/exit-codes.md lists the same.
enum class Code : int {
  // exit 1
  io_error,
  no_space,
  interrupted,
  timed_out,
  hook_failed,
  probe_failed,
  gate_failed,
  aborted,
  internal,
  // exit 2
  usage,
  config_invalid,
  root_not_writable,
  held,
  journal_unusable,
  // exit 3
  not_an_artifact,
  artifact_damaged,
  envelope_invalid,
  payload_type_wrong,
  predicate_wrong,
  statement_invalid,
  statement_mismatch,
  signature_missing,
  signature_unknown_key,
  signature_invalid,
  signature_threshold,
  key_unusable,
  no_trusted_keys,
  manifest_digest,
  manifest_invalid,
  manifest_too_large,
  header_unsupported,
  entry_mismatch,
  entry_missing,
  entry_extra,
  entry_digest,
  path_unsafe,
  link_unsafe,
  mode_unsafe,
  too_large,
  file_digest,
  app_mismatch,
  version_conflict,
  downgrade,
  failed_before,
  requires_agent,
  requires_arch,
  privilege,
  strategy_unsupported,
  rollback_floor,
  // exit 5
  busy,
  // exit 6
  not_found,
  // exit 7
  fetch_failed,
  // exit 8
  rollback_failed,
  // exit 9
  damaged,
};

struct CodeInfo {
  Code code;
  std::string_view name;  // as in JSON: "signature_missing"
  Exit exit;
  std::string_view meaning;  // one line, for docs
};

const CodeInfo& info(Code code);
// Nothing for a word that is none of ours.
std::optional<Code> code_from_name(std::string_view name);
// All codes in the order of the enum, for docs and the test that compares them.
const std::vector<CodeInfo>& all_codes();

// One failure. `message` is one line without a trailing period that names what was refused or what
// failed; expected and got are filled wherever something was compared; hint says what to do now.
class Error {
 public:
  Error(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  // By value: `error = std::move(error).hint(...)` would be a self-move otherwise, and lose its
  // texts.
  Error expected(std::string what) && {
    expected_ = std::move(what);
    return std::move(*this);
  }
  Error got(std::string what) && {
    got_ = std::move(what);
    return std::move(*this);
  }
  Error hint(std::string what) && {
    hint_ = std::move(what);
    return std::move(*this);
  }
  // Outer frames come later: error.with_context("staging release 'x'").
  Error with_context(std::string what) && {
    context_.push_back(std::move(what));
    return std::move(*this);
  }

  Code code() const { return code_; }
  Exit exit() const { return info(code_).exit; }
  std::string_view code_name() const { return info(code_).name; }
  const std::string& message() const { return message_; }
  const std::string& expected() const { return expected_; }
  const std::string& got() const { return got_; }
  const std::string& hint() const { return hint_; }
  const std::vector<std::string>& context() const { return context_; }

  // "outer: inner: message (expected E, got G)" on one line, control bytes escaped; no hint.
  std::string line() const;

 private:
  Code code_;
  std::string message_;
  std::string expected_;
  std::string got_;
  std::string hint_;
  std::vector<std::string> context_;
};

// An error from errno: "cannot open '/x': No such file or directory". ENOSPC and EDQUOT become
// Code::no_space, the rest Code::io_error.
Error system_error(int errno_value, std::string what_failed);

template <class T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using Base = tl::expected<T, Error>;
  using Base::Base;
  Result(Error error)
      : Base(tl::unexpect, std::move(error)) {}  // NOLINT(google-explicit-constructor)
  Result(Base base) : Base(std::move(base)) {}   // NOLINT(google-explicit-constructor)
};

using Status = Result<void>;
inline Status ok() {
  return Status();
}

}  // namespace updagent::base

// Return the error of `expression` from the enclosing function, with optional context.
#define UPD_TRY(expression)                                          \
  do {                                                               \
    if (auto upd_status = (expression); !upd_status)                 \
      return ::updagent::base::Error(std::move(upd_status).error()); \
  } while (false)

#define UPD_TRY_CONTEXT(expression, context)                                               \
  do {                                                                                     \
    if (auto upd_status = (expression); !upd_status)                                       \
      return ::updagent::base::Error(std::move(upd_status).error()).with_context(context); \
  } while (false)

#define UPD_CONCAT_INNER(a, b) a##b
#define UPD_CONCAT(a, b) UPD_CONCAT_INNER(a, b)

// UPD_ASSIGN(auto fd, open_dir(path)); declares or assigns on success, returns the error otherwise.
#define UPD_ASSIGN(target, expression)                                                    \
  auto UPD_CONCAT(upd_result_, __LINE__) = (expression);                                  \
  if (!UPD_CONCAT(upd_result_, __LINE__))                                                 \
    return ::updagent::base::Error(std::move(UPD_CONCAT(upd_result_, __LINE__)).error()); \
  target = std::move(*UPD_CONCAT(upd_result_, __LINE__))
