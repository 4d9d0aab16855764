// Where a supervisor keeps what is its own, below the runtime folder (a tmpfs: gone with the boot).
//   APP.sock APP.lock               control, lifetime lock
//   .APP/state                      what a successor needs
//   .APP/held                       socket of the holder of descriptors
//   .APP/notify.7 role.7 output.7   of generation 7
//   APP/7/                          its RUNTIME_DIRECTORY, the service user's
#pragma once

#include <cstdint>
#include <string>

namespace updagent::service {

struct Places {
  std::string runtime;  // /run/updagent, or ROOT/run
  std::string app;

  std::string control() const { return runtime + "/" + app + ".sock"; }
  std::string lock() const { return runtime + "/" + app + ".lock"; }
  std::string own() const { return runtime + "/." + app; }
  std::string state() const { return own() + "/state"; }
  std::string held() const { return own() + "/held"; }
  std::string notify(std::uint64_t generation) const { return numbered("notify", generation); }
  std::string role(std::uint64_t generation) const { return numbered("role", generation); }
  std::string output(std::uint64_t generation) const { return numbered("output", generation); }
  std::string generation_runtime(std::uint64_t generation) const {
    return runtime + "/" + app + "/" + std::to_string(generation);
  }

 private:
  std::string numbered(const char* name, std::uint64_t generation) const {
    return own() + "/" + name + "." + std::to_string(generation);
  }
};

}  // namespace updagent::service
