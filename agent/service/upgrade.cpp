#include "agent/service/upgrade.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <limits>

#include "agent/base/child_process.hpp"
#include "agent/base/files.hpp"
#include "agent/release/resolved_service.hpp"
#include "agent/service/client.hpp"
#include "agent/service/supervisor.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::UniqueFd;

constexpr std::size_t kMaxKeepsakeBytes = 256UL * 1024 * 1024;  // the state, escaped once more
// Reading the state takes milliseconds; the loop waits meanwhile, users do not.
constexpr base::Milliseconds kCheckPatience{5'000};

Status set_close_on_exec(int fd, bool close) {
  if (::fcntl(fd, F_SETFD, close ? FD_CLOEXEC : 0) == 0) return base::ok();
  return base::system_error(errno, "cannot keep descriptor " + std::to_string(fd));
}

Json numbers(const std::map<std::string, int>& descriptors) {
  Json all = Json::object();
  for (const auto& [name, fd] : descriptors) all[name] = fd;
  return all;
}

Result<UniqueFd> take_number(const Json& number) {
  const std::int64_t value = number.is_number_integer() ? number.get<std::int64_t>() : -1;
  if (value < 3 || value > std::numeric_limits<int>::max())
    return Error(Code::damaged, "what was kept names no descriptor");
  UniqueFd fd(static_cast<int>(value));
  UPD_TRY(set_close_on_exec(fd.get(), true));
  return fd;
}

Result<std::map<std::string, UniqueFd>> take_numbers(const Json& all) {
  std::map<std::string, UniqueFd> taken;
  for (const auto& [name, number] : all.items()) {
    UPD_ASSIGN(taken[name], take_number(number));
  }
  return taken;
}

Status check_generation(const Json& generation) {
  UPD_TRY(release::resolved_service_from_json(generation.value("run", std::string()),
                                              Code::requires_agent));
  if (generation.value("number", std::uint64_t{0}) > 0 && generation.contains("slot"))
    return base::ok();
  return Error(Code::requires_agent, "a generation without number or slot");
}

Result<Json> parse(const std::string& text) {
  Json all = Json::parse(text, nullptr, false);
  if (all.is_object() && all.contains("state") && all["state"].is_object()) return all;
  return Error(Code::damaged, "what was kept can't be understood");
}

}  // namespace

Result<UniqueFd> Keepsake::write() const {
  const Json all = {{"state", state},
                    {"lock", lock},
                    {"control", numbers(control)},
                    {"held", numbers(held)},
                    {"driver", driver}};
  UPD_ASSIGN(UniqueFd fd,
             text_descriptor(all.dump(-1, ' ', false, Json::error_handler_t::replace)));
  UPD_TRY(set_close_on_exec(fd.get(), false));
  return fd;
}

void Keepsake::set_inherited(bool inherited) const {
  static_cast<void>(set_close_on_exec(lock, !inherited));
  for (const auto* some : {&control, &held})
    for (const auto& [name, fd] : *some) static_cast<void>(set_close_on_exec(fd, !inherited));
}

Result<Kept> take_kept(int fd) {
  const UniqueFd memory(fd);
  UPD_ASSIGN(const std::string text, base::read_fd(fd, "what was kept", kMaxKeepsakeBytes));
  UPD_ASSIGN(Json all, parse(text));
  Kept kept;
  UPD_ASSIGN(kept.lock, take_number(all["lock"]));
  UPD_ASSIGN(kept.control, take_numbers(all["control"]));
  UPD_ASSIGN(kept.held, take_numbers(all["held"]));
  kept.driver = all.value("driver", std::uint64_t{0});
  kept.state = std::move(all["state"]);
  return kept;
}

Status check_state(const std::string& path) {
  UPD_ASSIGN(const std::string text, base::read_file(path, kMaxKeepsakeBytes));
  UPD_ASSIGN(const Json all, parse(text));
  return check_understood(all["state"]);
}

Status check_understood(const Json& state) {
  const int version = state.value("state_version", 0);
  if (version != kStateVersion)
    return Error(Code::requires_agent, "this program does not understand the state")
        .expected("version " + std::to_string(kStateVersion))
        .got(std::to_string(version));
  for (const Json& generation : state.value("generations", Json::array()))
    UPD_TRY(check_generation(generation));
  return WorkerSet::check(state.value("workers", Json::object()));
}

Result<Answer> Supervisor::op_upgrade(const Request& request) {
  const std::string program = request.text("program");
  if (program.empty() || program.front() != '/')
    return Error(Code::usage, "the new program is no absolute path").got("'" + program + "'");
  for (const auto& [number, generation] : generations_)
    if (!generation->can_be_kept())
      return Error(Code::busy, "generation " + std::to_string(number) + " is just being started")
          .hint("try again in a moment");
  if (!workers_->can_be_kept())
    return Error(Code::busy, "a worker is just being started").hint("try again in a moment");
  Keepsake keepsake;
  keepsake.state = describe_state();
  UPD_ASSIGN(const UniqueFd memory, keepsake.write());
  base::ChildSpec check;
  check.argv = {program, "--check-state",
                "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(memory.get())};
  check.time_limit = kCheckPatience;
  UPD_ASSIGN(const base::ChildResult checked, base::run_child(check, nullptr));
  if (!checked.success())
    return Error(Code::requires_agent, "the new program can't take over: this one goes on")
        .expected("'" + program + "' --check-state to succeed")
        .got(checked.describe(check.time_limit) + ": " + checked.output);
  upgrade_ = loop_->after(base::Milliseconds(0), [this, program] { become(program); });
  return Answer{{"pid", ::getpid()}};
}

// The state may have changed since it was checked, its form has not.
void Supervisor::become(const std::string& program) {
  Keepsake keepsake;
  keepsake.state = describe_state();
  keepsake.lock = lock_.fd();
  keepsake.control = control_->descriptors();
  keepsake.held = descriptors();
  keepsake.driver = deployment_ ? deployment_->driver : 0;
  const auto memory = keepsake.write();
  if (!memory)
    return event("supervisor.problem", "failure", nullptr, {{"problem", memory.error().line()}});
  save_state();
  event("supervisor.upgraded", "started", nullptr, {{"program", program}});
  std::vector<std::string> words = setup_.words;
  words.front() = program;
  words.emplace_back("--kept-fd");
  words.push_back(std::to_string(memory->get()));
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  keepsake.set_inherited(true);
  // exact already (updagent supervise); it may name the socket of our unit's systemd
  ::execve(argv[0], argv.data(), environ);
  const int failed = errno;
  keepsake.set_inherited(false);
  event("supervisor.problem", "failure", nullptr,
        {{"problem", base::system_error(failed, "cannot become '" + program + "'").line()}});
}

}  // namespace updagent::service
