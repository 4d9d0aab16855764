// Reads [service] from a tree, in any of the dialects; and writes it as the manifest has it.
#pragma once

#include <span>

#include "agent/base/error.hpp"
#include "agent/base/strict_json.hpp"
#include "agent/release/dialect.hpp"
#include "agent/release/fields.hpp"
#include "agent/release/service.hpp"

namespace updagent::release {

// The keys of a [service] that runs, `user` and `environment` of its commands among them.
std::span<const Key> service_keys(const Dialect& dialect);

// All but `user` and `environment`; `fields` has no unknown key (service_keys()). Words, addresses
// and types are checked, what else the values may be is check_service()'s business. What is not
// said has its default, that of the protocol where it depends on it.
base::Status read_service(const Fields& fields, const Dialect& dialect, Service& into);

// [[worker]] of updagent.toml, which stands at its top.
base::Status read_workers(const Fields& top, Service& into);

// The inverse in the manifest's dialect: lists, tables and keys with their fixed default are left
// out.
base::Json service_to_json(const Service& service);

}  // namespace updagent::release
