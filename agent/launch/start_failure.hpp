// Says in words why a service could not be started.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/launch/process_watch.hpp"
#include "agent/launch/service_start.hpp"
#include "agent/launch/start_child.hpp"

namespace updagent::launch {

// "joining its cgroup", "becoming its user (setresuid)": fits after "while".
std::string_view step_words(StartStep step);

// `candidates` are the paths that were tried for argv[0].
base::Error start_failed(const ServiceSpec& spec, const std::vector<std::string>& candidates,
                         const StartProgress& progress);
// It was ended from outside before anything of the service ran.
base::Error died_on_the_way(const ServiceSpec& spec, StartStep step, const ProcessEnd& end);
base::Error hung_on_the_way(const ServiceSpec& spec, StartStep step);

}  // namespace updagent::launch
