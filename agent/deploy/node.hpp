// What every driver does first: the root folder, the journal. Private to deploy/.
#pragma once

#include <optional>

#include "agent/deploy/deployment.hpp"

namespace updagent::deploy {

// Code::root_not_writable naming sudo and --root when this user can't write there.
base::Status prepare_root(const config::Layout& layout);
base::Result<journal::Journal> open_journal(const Context& context,
                                            const config::Settings& settings);
// For what never waits for the database: nothing (and a warning) when it can't be used.
std::optional<journal::Journal> open_journal_or_warn(const Context& context,
                                                     const config::Settings& settings);

// What the journal has to say without failing goes to the observer.
void show_warnings(const Context& context, journal::Journal& journal);

// Every app that has releases here.
base::Result<std::vector<std::string>> apps_on_disk(const Context& context);

// For recovery and rollback: a broken node.toml must not leave an app half-way. The defaults, with
// a warning, when it can't be read.
config::Settings settings_or_defaults(const Context& context, const std::string& app);

}  // namespace updagent::deploy
