#include "agent/base/error.hpp"

#include <cerrno>
#include <cstring>

#include "agent/base/text.hpp"

namespace updagent::base {

const std::vector<CodeInfo>& all_codes() {
  static const std::vector<CodeInfo> kCodes = {
      {Code::io_error, "io_error", Exit::failed, "a system call on a file or process failed"},
      {Code::no_space, "no_space", Exit::failed,
       "the file system has too few bytes or inodes left"},
      {Code::interrupted, "interrupted", Exit::failed,
       "stopped by ^C or SIGTERM before the switch"},
      {Code::timed_out, "timed_out", Exit::failed, "a bounded wait ended"},
      {Code::hook_failed, "hook_failed", Exit::failed, "a hook failed or hung"},
      {Code::probe_failed, "probe_failed", Exit::failed,
       "a probe did not pass, or the service did not come up"},
      {Code::gate_failed, "gate_failed", Exit::failed,
       "a gate did not hold, or its data did not come in time"},
      {Code::aborted, "aborted", Exit::failed, "an operator aborted the deployment"},
      {Code::internal, "internal", Exit::failed, "a bug in updagent: please report it"},
      {Code::usage, "usage", Exit::usage, "the command line is wrong"},
      {Code::config_invalid, "config_invalid", Exit::usage,
       "a file of this node's configuration is wrong"},
      {Code::root_not_writable, "root_not_writable", Exit::usage,
       "the root folder can't be written by this user"},
      {Code::held, "held", Exit::usage, "an operator holds this app at its version"},
      {Code::journal_unusable, "journal_unusable", Exit::usage,
       "the database is newer than this binary, locked or damaged"},
      {Code::not_an_artifact, "not_an_artifact", Exit::refused,
       "no release envelope at the start: an ordinary tarball, or something else"},
      {Code::artifact_damaged, "artifact_damaged", Exit::refused,
       "cut short, bits flipped, or bytes after the end"},
      {Code::envelope_invalid, "envelope_invalid", Exit::refused,
       "the DSSE envelope can't be read"},
      {Code::payload_type_wrong, "payload_type_wrong", Exit::refused,
       "the envelope signs something that is not an in-toto statement"},
      {Code::predicate_wrong, "predicate_wrong", Exit::refused,
       "the statement is not about an updagent release"},
      {Code::statement_invalid, "statement_invalid", Exit::refused,
       "the signed statement can't be read"},
      {Code::statement_mismatch, "statement_mismatch", Exit::refused,
       "app or version differ between statement and manifest"},
      {Code::signature_missing, "signature_missing", Exit::refused,
       "the envelope has no signature"},
      {Code::signature_unknown_key, "signature_unknown_key", Exit::refused,
       "signed, but by no key that this node trusts"},
      {Code::signature_invalid, "signature_invalid", Exit::refused,
       "a trusted key's signature does not fit"},
      {Code::signature_threshold, "signature_threshold", Exit::refused,
       "fewer different trusted keys signed than the node asks for"},
      {Code::key_unusable, "key_unusable", Exit::usage,
       "a key file is not Ed25519 or ECDSA P-256, or others may write it"},
      {Code::no_trusted_keys, "no_trusted_keys", Exit::refused, "this node trusts no key yet"},
      {Code::manifest_digest, "manifest_digest", Exit::refused,
       "the manifest is not the one that was signed"},
      {Code::manifest_invalid, "manifest_invalid", Exit::refused,
       "the manifest breaks a rule of docs/artifact.md"},
      {Code::manifest_too_large, "manifest_too_large", Exit::refused,
       "the manifest or its list of entries is past its bound"},
      {Code::header_unsupported, "header_unsupported", Exit::refused,
       "a tar header outside the profile of docs/artifact.md"},
      {Code::entry_mismatch, "entry_mismatch", Exit::refused,
       "a tar header differs from the manifest"},
      {Code::entry_missing, "entry_missing", Exit::refused,
       "the manifest lists an entry that the archive lacks"},
      {Code::entry_extra, "entry_extra", Exit::refused,
       "the archive has an entry that the manifest does not list"},
      {Code::entry_digest, "entry_digest", Exit::refused,
       "the bytes of an entry are not those that were signed"},
      {Code::path_unsafe, "path_unsafe", Exit::refused,
       "a path that leaves the tree, is not portable, or collides with another"},
      {Code::link_unsafe, "link_unsafe", Exit::refused,
       "a link that leaves the tree or passes through another"},
      {Code::mode_unsafe, "mode_unsafe", Exit::refused,
       "setuid, setgid, sticky or another mode that is not allowed"},
      {Code::too_large, "too_large", Exit::refused, "larger than this node accepts"},
      {Code::file_digest, "file_digest", Exit::refused,
       "the artifact is not the file that --expect-sha256 names"},
      {Code::app_mismatch, "app_mismatch", Exit::refused,
       "the release is of another app than --app or the URL's app"},
      {Code::version_conflict, "version_conflict", Exit::refused,
       "this version is known here with other contents"},
      {Code::downgrade, "downgrade", Exit::refused, "older than what was committed here"},
      {Code::failed_before, "failed_before", Exit::refused,
       "this release was rolled back here before"},
      {Code::requires_agent, "requires_agent", Exit::refused,
       "the release needs another version of updagent"},
      {Code::requires_arch, "requires_arch", Exit::refused,
       "the release is for another machine type"},
      {Code::privilege, "privilege", Exit::refused,
       "the release asks for more than this node allows"},
      {Code::strategy_unsupported, "strategy_unsupported", Exit::refused,
       "a strategy that this updagent can't run"},
      {Code::rollback_floor, "rollback_floor", Exit::refused,
       "the older release can't run on data that the newer one touched"},
      {Code::busy, "busy", Exit::busy, "another deployment of this app is running"},
      {Code::not_found, "not_found", Exit::not_found, "no such app, version or trace"},
      {Code::fetch_failed, "fetch_failed", Exit::not_fetched,
       "the artifact could not be fetched; what came is kept"},
      {Code::rollback_failed, "rollback_failed", Exit::rollback_failed,
       "the way back failed: a person is needed"},
      {Code::damaged, "damaged", Exit::damaged, "damage or tampering was found"},
  };
  return kCodes;
}

std::optional<Code> code_from_name(std::string_view name) {
  for (const CodeInfo& known : all_codes())
    if (known.name == name) return known.code;
  return std::nullopt;
}

const CodeInfo& info(Code code) {
  return all_codes()[static_cast<std::size_t>(code)];
}

std::string Error::line() const {
  std::string out;
  for (auto it = context_.rbegin(); it != context_.rend(); ++it) out += *it + ": ";
  out += message_;
  if (!expected_.empty() && !got_.empty()) {
    out += " (expected " + expected_ + ", got " + got_ + ")";
  } else if (!expected_.empty()) {
    out += " (expected " + expected_ + ")";
  } else if (!got_.empty()) {
    out += " (got " + got_ + ")";
  }
  return printable(out);
}

Error system_error(int errno_value, std::string what_failed) {
  const Code code =
      errno_value == ENOSPC || errno_value == EDQUOT ? Code::no_space : Code::io_error;
  // strerrordesc_np needs no buffer and is thread-safe
  const char* description = strerrordesc_np(errno_value);
  what_failed += ": ";
  what_failed += description != nullptr ? description : "unknown error";
  return {code, std::move(what_failed)};
}

}  // namespace updagent::base
