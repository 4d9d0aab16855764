#include "agent/deploy/order.hpp"

#include <unistd.h>

#include "agent/base/clock.hpp"
#include "agent/base/identity.hpp"
#include "agent/deploy/driver_lock.hpp"
#include "agent/deploy/environment.hpp"
#include "agent/deploy/policy.hpp"
#include "agent/deploy/state_table.hpp"
#include "agent/deploy/supervise.hpp"
#include "agent/journal/journal.hpp"
#include "agent/release/manifest.hpp"
#include "agent/service/places.hpp"
#include "agent/service/state_file.hpp"
#include "agent/store/store.hpp"
#include "agent/trust/trust.hpp"

namespace updagent::deploy {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

// A reader of the journal hardly ever waits; a boot must not.
constexpr base::Milliseconds kReadPatience{2'000};

Error damaged(const std::string& app, const std::string& version, const std::string& problem) {
  return Error(Code::damaged, "release " + version + " of '" + app +
                                  "' is not what was signed: " + problem + "; it is not started")
      .hint("apply a good release, or updagent rollback " + app + " --to VERSION");
}

// Whose keys signed it was asked when it came; here the question is whether it is still that.
Status check_tree(const store::AppStore& store, const std::string& version) {
  const auto envelope = store.envelope(version);
  const auto read =
      envelope ? trust::parse_envelope(*envelope) : Result<trust::Envelope>(envelope.error());
  const auto statement =
      read ? trust::parse_statement(read->payload) : Result<trust::Statement>(read.error());
  if (!statement) return damaged(store.name(), version, statement.error().line());
  const auto digest = store.manifest_digest(version);
  if (!digest || *digest != statement->manifest_digest)
    return damaged(store.name(), version, "its manifest is another one");
  const auto manifest = store.manifest(version);
  if (!manifest) return damaged(store.name(), version, manifest.error().line());
  const auto report = store::verify_tree(store.path(version), *manifest, nullptr);
  if (!report) return damaged(store.name(), version, report.error().line());
  if (!report->problems.empty()) return damaged(store.name(), version, report->problems.front());
  return base::ok();
}

// What would run, and as whom.
Result<std::string> service_of(const config::Layout& layout, store::AppStore& store,
                               const std::string& version) {
  const std::string& app = store.name();
  UPD_ASSIGN(const release::Manifest manifest, store.description(version));
  UPD_ASSIGN(const config::Settings settings, config::load(layout, std::nullopt, app));
  UPD_ASSIGN(const std::string user,
             user_for(manifest, settings.app, ::geteuid() == 0, base::own_identity().user,
                      layout.etc + "/apps.d/" + app + ".toml"));
  UPD_ASSIGN(const config::ServiceResolution found, resolve(manifest, layout, settings.app, user));
  UPD_TRY(prepare_place(store, layout, version, user));
  return release::resolved_service_to_json(found.run, Code::config_invalid);
}

Result<journal::Journal> journal_to_read(const config::Layout& layout) {
  return journal::Journal::open(
      {layout.database(), layout.audit_head(), layout.spool(), layout.reserve()}, "",
      journal::Journal::Mode::read_only, "", kReadPatience);
}

// The old release of a handoff has run beside its candidate, and goes on to until that is decided.
bool handoff_is_open(const config::Layout& layout, const release::Manifest& current) {
  if (strategy_from_name(current.strategy) != Strategy::handoff) return false;
  auto journal = journal_to_read(layout);
  if (!journal) return false;
  const auto row = journal->open_deployment(current.app);
  return row && *row;
}

// The committed release, unless a candidate that was not taken back has touched the data since, and
// its floor says that the committed one must not run on them.
Result<std::string> version_to_start(const config::Layout& layout, const store::AppStore& store) {
  UPD_ASSIGN(const store::Links links, store.links());
  if (!links.committed)
    return Error(Code::not_found, "no release of '" + store.name() + "' was ever committed here");
  if (!links.current || *links.current == *links.committed) return *links.committed;
  const auto current = store.description(*links.current);
  if (!current || check_floor(*current, *links.committed) || handoff_is_open(layout, *current))
    return *links.committed;
  return *links.current;
}

Result<std::string> service_to_start(const config::Layout& layout, const std::string& app,
                                     bool look_at_tree) {
  UPD_ASSIGN(store::AppStore store, store::AppStore::open(layout.app(app), app, false));
  UPD_ASSIGN(const std::string version, version_to_start(layout, store));
  if (look_at_tree) UPD_TRY(check_tree(store, version));
  return service_of(layout, store, version);
}

}  // namespace

Result<std::optional<StopWish>> stop_wish(const config::Layout& layout, const std::string& app) {
  auto journal = journal_to_read(layout);
  if (!journal && journal.error().code() == Code::not_found) return std::optional<StopWish>();
  if (!journal) return std::move(journal).error();
  UPD_ASSIGN(const auto row, journal->app(app));
  if (!row || !row->stopped) return std::optional<StopWish>();
  return std::optional(StopWish{row->stopped_by, row->stopped_us});
}

Duty duty_at(const Standpoint& standpoint) {
  if (!standpoint.stop_wanted) return Duty::serve;
  if (standpoint.driven) return Duty::adopt;
  return standpoint.living ? Duty::end : Duty::nothing;
}

bool has_living_generations(const config::Layout& layout, const std::string& app) {
  const auto state = service::read_state(service::Places{layout.runtime, app}.state());
  if (!state || !state->is_object() || !state->contains("generations")) return false;
  const auto workers = state->value("workers", base::Json::object());
  return !(*state)["generations"].empty() ||
         !workers.value("processes", base::Json::array()).empty();
}

Result<std::string> sound_service_to_start(const config::Layout& layout, const std::string& app) {
  return service_to_start(layout, app, true);
}

Result<Duty> duty_of(const config::Layout& layout, const std::string& app) {
  UPD_ASSIGN(const auto wish, stop_wish(layout, app));
  return duty_at({wish.has_value(), has_living_generations(layout, app), is_driven(layout, app)});
}

Result<Order> order_for(const config::Layout& layout, const std::string& app) {
  Order order;
  Standpoint standpoint;
  // Not knowing the wish it serves: an app that runs against a wish can be stopped again, one that
  // does not run is missed.
  if (const auto wish = stop_wish(layout, app); wish)
    standpoint.stop_wanted = wish->has_value();
  else
    order.warnings.push_back("whether '" + app + "' is to be stopped can't be read (" +
                             wish.error().line() + "): it is started");
  standpoint.living = has_living_generations(layout, app);
  standpoint.driven = is_driven(layout, app);
  order.duty = duty_at(standpoint);
  if (order.duty != Duty::serve) return order;
  auto service = service_to_start(layout, app, !standpoint.living);
  if (service) {
    order.service = std::move(*service);
    return order;
  }
  if (!standpoint.living && !standpoint.driven) return std::move(service).error();
  if (!standpoint.driven || service.error().code() != Code::not_found)
    order.warnings.push_back(service.error().line());
  order.duty = Duty::adopt;
  return order;
}

}  // namespace updagent::deploy
