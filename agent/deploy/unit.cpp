#include "agent/deploy/unit.hpp"

#include <unistd.h>

#include <algorithm>
#include <sstream>
#include <string_view>
#include <vector>

#include "agent/base/child_process.hpp"
#include "agent/base/files.hpp"
#include "agent/launch/cgroup_support.hpp"

namespace updagent::deploy {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

Result<base::ChildResult> run_systemctl(std::vector<std::string> words,
                                        base::Milliseconds patience = kSystemdPatience) {
  base::ChildSpec spec;
  spec.argv = {"systemctl"};
  spec.argv.insert(spec.argv.end(), words.begin(), words.end());
  spec.environment = {std::string("PATH=") + base::kSafePath, "LC_ALL=C"};
  spec.working_directory = "/";
  spec.time_limit = patience;
  return base::run_child(spec, nullptr);
}

std::string without_line_end(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

Status systemctl(const std::string& what, std::vector<std::string> words,
                 base::Milliseconds patience = kSystemdPatience) {
  UPD_ASSIGN(const base::ChildResult ran, run_systemctl(std::move(words), patience));
  if (ran.success()) return base::ok();
  const std::string said = without_line_end(ran.output);
  return Error(Code::io_error, "systemd did not " + what)
      .got(ran.describe(patience) + (said.empty() ? "" : ": " + said));
}

}  // namespace

bool runs_as_unit(const config::Layout& layout) {
  return !layout.explicit_root && base::exists("/run/systemd/system");
}

std::string unit_name(const std::string& app) {
  return "updagent@" + app + ".service";
}

bool is_in_unit(std::string_view membership, const std::string& unit) {
  while (!membership.empty()) {
    const std::string_view line = membership.substr(0, membership.find('\n'));
    membership.remove_prefix(std::min(line.size() + 1, membership.size()));
    if (line.ends_with("/" + unit)) return true;
  }
  return false;
}

bool in_own_unit(const std::string& app) {
  return is_in_unit(launch::read_membership(::getpid()), unit_name(app));
}

Status start_unit(const std::string& app) {
  Status started =
      systemctl("start " + unit_name(app), {"start", unit_name(app)}, kUnitStartPatience);
  if (started) return started;
  return std::move(started).error().hint("systemctl status " + unit_name(app));
}

// --no-block: at a boot the unit waits for the recovery that may be calling here.
Status enable_unit(const std::string& app) {
  const std::string unit = unit_name(app);
  UPD_TRY(systemctl("enable " + unit, {"--quiet", "enable", kRecoverUnit, unit}));
  return systemctl("start " + unit, {"start", "--no-block", unit});
}

Status disable_unit(const std::string& app) {
  return systemctl("disable " + unit_name(app), {"--quiet", "disable", unit_name(app)});
}

Result<std::string> unit_file_state(const std::string& app) {
  UPD_ASSIGN(const base::ChildResult ran, run_systemctl({"is-enabled", unit_name(app)}));
  std::string said = without_line_end(ran.output);
  // it answers in one word, and exits with 1 for "disabled"
  if (!said.empty() && said.find_first_of(" \n") == std::string::npos) return said;
  return Error(Code::io_error, "systemd does not say whether " + unit_name(app) + " is enabled")
      .got(ran.describe(kSystemdPatience) + (said.empty() ? "" : ": " + said));
}

std::string job_type(std::string_view jobs, const std::string& unit) {
  std::istringstream lines{std::string(jobs)};
  std::string line;
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::string id;
    std::string name;
    std::string type;
    if (words >> id >> name >> type && name == unit) return type;
  }
  return "";
}

Result<std::string> unit_job(const std::string& app) {
  UPD_ASSIGN(const base::ChildResult ran,
             run_systemctl({"list-jobs", "--no-legend", "--no-pager", "--plain", "--full"}));
  if (ran.success()) return job_type(ran.output, unit_name(app));
  return Error(Code::io_error, "systemd does not say what it does with " + unit_name(app))
      .got(ran.describe(kSystemdPatience) + ": " + without_line_end(ran.output));
}

}  // namespace updagent::deploy
