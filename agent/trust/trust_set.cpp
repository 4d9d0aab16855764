#include <algorithm>

#include "agent/base/files.hpp"
#include "agent/base/guarded_file.hpp"
#include "agent/base/text.hpp"
#include "agent/release/semver.hpp"
#include "agent/trust/trust.hpp"

namespace updagent::trust {
namespace {

using base::Code;
using base::Error;
using base::Guard;
using base::Result;
using base::Status;

constexpr std::size_t kMaxFolderNames = 4096;  // keys, and one folder for each app
constexpr std::string_view kSuffix = ".pub";
constexpr Guard kInstalled{Code::key_unusable, base::kOthersMayWrite, false};
constexpr Guard kNamedByOperator{Code::key_unusable, base::kOthersMayWrite, true};

std::string parent_of(const std::string& path) {
  const std::size_t end = path.find_last_not_of('/');
  const std::size_t slash = end == std::string::npos ? 0 : path.find_last_of('/', end);
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string file_name_of(const std::string& path) {
  return path.substr(path.find_last_of('/') + 1);
}

bool is_directory(const std::string& path) {
  struct stat about{};
  return ::stat(path.c_str(), &about) == 0 && S_ISDIR(about.st_mode);
}

// One key under two names is still one key.
Status add_key(TrustSet& set, PublicKey key) {
  const bool known = std::any_of(set.keys.begin(), set.keys.end(),
                                 [&](const PublicKey& one) { return one.key_id == key.key_id; });
  if (known) return base::ok();
  if (set.keys.size() == kMaxTrustedKeys)
    return Error(Code::key_unusable, "too many keys in " + set.where)
        .expected("at most " + std::to_string(kMaxTrustedKeys))
        .got("more");
  set.keys.push_back(std::move(key));
  return base::ok();
}

Status add_file(TrustSet& set, const std::string& path, const Guard& guard) {
  UPD_ASSIGN(const auto pem, base::read_guarded_file(path, guard, kMaxKeyFileBytes));
  if (!pem) return Error(Code::key_unusable, "there is no key '" + path + "'");
  std::string name = file_name_of(path);
  if (name.ends_with(kSuffix)) name.resize(name.size() - kSuffix.size());
  UPD_ASSIGN(PublicKey key, parse_public_key(*pem, std::move(name), path));
  return add_key(set, std::move(key));
}

// *.pub in the folder. Hidden files are half-written ones, folders are those of apps.
Status add_folder(TrustSet& set, const std::string& path, const Guard& guard) {
  UPD_ASSIGN(const bool there, base::check_guarded_directory(path, guard));
  if (!there) return base::ok();
  UPD_ASSIGN(const auto names, base::list_directory(path, kMaxFolderNames));
  for (const std::string& name : names) {
    if (name.front() == '.' || !name.ends_with(kSuffix)) continue;
    const std::string file = std::string(path).append("/").append(name);
    if (is_directory(file)) continue;
    UPD_TRY(add_file(set, file, guard));
  }
  return base::ok();
}

Status check_threshold(int threshold) {
  if (threshold >= 1 && threshold <= static_cast<int>(kMaxTrustedKeys)) return base::ok();
  return Error(Code::config_invalid, "the threshold of trusted keys is out of range")
      .expected("1 to " + std::to_string(kMaxTrustedKeys))
      .got(std::to_string(threshold));
}

}  // namespace

Result<TrustSet> load_trust(const std::string& trust_directory, const std::string& app,
                            int threshold) {
  UPD_TRY(check_threshold(threshold));
  if (!app.empty() && !release::is_app_name(app))  // it becomes part of a path
    return Error(Code::usage, "'" + app + "' is no name for an app")
        .expected("lower-case letters, digits, '.', '_', '-'; at most 64")
        .got("'" + app + "'");
  // whoever can rename trust.d can put another in its place
  UPD_TRY(base::check_guarded_directory(parent_of(trust_directory), kInstalled, true));
  UPD_TRY(base::check_guarded_directory(trust_directory, kInstalled));
  TrustSet set;
  set.threshold = threshold;
  set.where = trust_directory + (app.empty() ? "" : "/" + app);
  if (!app.empty()) {
    UPD_TRY(add_folder(set, set.where, kInstalled));
    if (!set.keys.empty()) {
      set.to_add += " --app " + app;
      return set;
    }
    set.where = trust_directory;
  }
  UPD_TRY(add_folder(set, trust_directory, kInstalled));
  return set;
}

Result<TrustSet> load_trust_from(const std::vector<std::string>& paths, int threshold) {
  UPD_TRY(check_threshold(threshold));
  TrustSet set;
  set.threshold = threshold;
  set.where = "--trust " + base::join(paths, " --trust ");
  set.to_add = "the same command with --trust FILE, too";
  for (const std::string& path : paths) {
    if (is_directory(path)) {
      UPD_TRY(add_folder(set, path, kNamedByOperator));
    } else {
      UPD_TRY(add_file(set, path, kNamedByOperator));
    }
  }
  return set;
}

}  // namespace updagent::trust
