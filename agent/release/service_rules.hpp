// What the values of a Service may be, alone and together. docs/artifact.md, "Service".
#pragma once

#include <string_view>

#include "agent/base/error.hpp"
#include "agent/release/dialect.hpp"
#include "agent/release/service.hpp"

namespace updagent::release {

// `environment` is that of [service]: its values may have placeholders, but not of sockets, since
// hooks see it too. The error names the place as `dialect` spells it.
base::Status check_service(const Service& service, const Variables& environment,
                           std::string_view strategy, const Dialect& dialect);

}  // namespace updagent::release
