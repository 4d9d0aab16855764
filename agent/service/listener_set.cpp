#include "agent/service/listener_set.hpp"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>

#include <cerrno>

#include "agent/base/identity.hpp"
#include "agent/base/text.hpp"
#include "agent/listen/diag.hpp"
#include "agent/listen/unix_path.hpp"

namespace updagent::service {
namespace {

std::span<const std::uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

using base::Code;
using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::UniqueFd;
using listen::Transport;

// [level, name, bytes in hex], as an adopted socket had them: the successor's sockets need them,
// too.
Json options_json(const std::vector<listen::SocketOption>& options) {
  Json list = Json::array();
  for (const listen::SocketOption& option : options)
    list.push_back({option.level, option.name, base::to_hex(bytes_of(option.value))});
  return list;
}

std::vector<listen::SocketOption> options_from(const Json& list) {
  std::vector<listen::SocketOption> options;
  for (const Json& one : list) {
    const auto bytes = base::from_hex(one.at(2).get<std::string>());
    if (bytes) options.push_back({one.at(0), one.at(1), std::string(bytes->begin(), bytes->end())});
  }
  return options;
}

Json ids_json(const listen::SteeredIds& ids) {
  return {{"program", ids.program}, {"slots", ids.slots}, {"counters", ids.counters}};
}

std::string shared_name(const std::string& key) {
  return "shared:" + key;
}

Result<UniqueFd> duplicate(int fd) {
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!copy) return base::system_error(errno, "cannot duplicate a listening socket");
  return copy;
}

listen::SteeredIds ids_from(const Json& json) {
  return {json.value("program", 0U), json.value("slots", 0U), json.value("counters", 0U)};
}

}  // namespace

std::string ListenerSet::key_of(const listen::ListenerSpec& spec) {
  return spec.address.text() + (spec.address.v6only ? "" : "+v4");
}

Result<listen::ListenerSpec> ListenerSet::spec_of(const release::Listener& listener,
                                                  const release::ResolvedService& run) {
  listen::ListenerSpec spec;
  spec.name = listener.name;
  UPD_ASSIGN(spec.address, listen::parse_address(listener.address, "listener " + listener.name,
                                                 Code::config_invalid));
  spec.address.v6only = listener.ipv6_only || spec.address.family != AF_INET6;
  spec.backlog = listener.backlog;
  if (spec.address.transport != Transport::unix_path) return spec;
  spec.mode = static_cast<mode_t>(listener.mode);
  const std::string& user = listener.user.empty() ? run.user : listener.user;
  if (!user.empty()) {
    UPD_ASSIGN(const base::Identity owner, base::identity_of_user(user));
    spec.owner = owner.uid;
    spec.group = owner.gid;
  }
  if (!listener.group.empty()) {
    UPD_ASSIGN(spec.group, base::gid_of_group(listener.group));
  }
  return spec;
}

Result<UniqueFd> ListenerSet::open_one(Entry& entry, const listen::ListenerSpec& spec,
                                       std::uint64_t generation, listen::Slot slot) {
  const Transport transport = spec.address.transport;
  if (transport == Transport::unix_path) return listen::open_path_socket(spec, generation);
  if (policy_ != nullptr && transport != Transport::unix_abstract) {
    if (!entry.steered) {
      UPD_ASSIGN(entry.steered, listen::SteeredListener::create(*policy_));
    }
    return entry.steered->open(spec, slot);
  }
  if (!entry.shared) {
    UPD_TRY(listen::check_free(spec, shared_inodes()));
    UPD_ASSIGN(entry.shared, listen::open_socket(spec));
  }
  return duplicate(entry.shared.get());
}

Result<std::vector<OwnSocket>> ListenerSet::open(const release::ResolvedService& run,
                                                 std::uint64_t generation, listen::Slot slot) {
  std::vector<OwnSocket> sockets;
  const auto open_all = [&]() -> Status {
    for (const release::Listener& listener : run.service.listeners) {
      UPD_ASSIGN(listen::ListenerSpec spec, spec_of(listener, run));
      const std::string key = key_of(spec);
      Entry& entry = entries_[key];
      if (entry.users.empty()) {
        // backlog, mode and owner are this release's; what a socket that was adopted had goes on
        entry.spec = spec;
        // what a machine that died left beside it; what can't be swept is in nobody's way
        if (spec.address.transport == Transport::unix_path)
          static_cast<void>(listen::sweep_path_sockets(spec, {}));
      }
      spec.options = entry.spec.options;
      spec.nonblocking = entry.spec.nonblocking;
      entry.users.insert(generation);
      UPD_ASSIGN(UniqueFd fd, open_one(entry, spec, generation, slot));
      sockets.push_back({listener.name, std::move(fd)});
    }
    return base::ok();
  };
  Status opened = open_all();
  if (opened) return sockets;
  for (auto& [key, entry] : entries_) {
    if (!entry.users.contains(generation)) continue;
    if (entry.steered) static_cast<void>(entry.steered->remove(slot));
    if (entry.spec.address.transport == Transport::unix_path)
      static_cast<void>(listen::remove_path_socket(entry.spec, generation));
    entry.users.erase(generation);
  }
  forget_unused();
  return std::move(opened).error();
}

ListenerSet::Entry* ListenerSet::entry_of(const Generation& generation, std::size_t index) {
  const auto spec = spec_of(generation.plan().run.service.listeners[index], generation.plan().run);
  if (!spec) return nullptr;
  const auto found = entries_.find(key_of(*spec));
  return found == entries_.end() ? nullptr : &found->second;
}

const ListenerSet::Entry* ListenerSet::entry_of(const Generation& generation,
                                                std::size_t index) const {
  return const_cast<ListenerSet*>(this)->entry_of(generation, index);
}

Status ListenerSet::publish(const Generation& generation) {
  Status all = base::ok();
  const std::vector<OwnSocket>& sockets = generation.plan().sockets;
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    const Entry* entry = entry_of(generation, i);
    if (entry == nullptr || !entry->users.contains(generation.number()) ||
        entry->spec.address.transport != Transport::unix_path)
      continue;
    // where it can't be restored the name can't be given either, and that says why
    static_cast<void>(listen::restore_path(entry->spec, generation.number(), sockets[i].fd.get()));
    Status one = listen::publish(entry->spec, generation.number());
    if (all && !one) all = std::move(one);
  }
  return all;
}

void ListenerSet::retire(const Generation& generation) {
  const std::vector<OwnSocket>& sockets = generation.plan().sockets;
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    Entry* entry = entry_of(generation, i);
    if (entry == nullptr || !entry->users.contains(generation.number())) continue;
    if (entry->spec.address.transport == Transport::unix_path)
      static_cast<void>(listen::remove_path_socket(entry->spec, generation.number()));
    if (entry->steered) {
      if (entry->spec.address.transport == Transport::tcp)
        static_cast<void>(listen::shut_down(sockets[i].fd.get()));
      static_cast<void>(entry->steered->remove(generation.slot()));
    }
    entry->users.erase(generation.number());
  }
  forget_unused();
}

// The holder may have a shared socket for a moment longer: nobody is to wait in its queue.
void ListenerSet::forget_unused() {
  std::erase_if(entries_, [](const auto& item) {
    const Entry& entry = item.second;
    if (!entry.users.empty()) return false;
    if (entry.shared && entry.spec.address.transport == Transport::tcp)
      static_cast<void>(listen::shut_down(entry.shared.get()));
    return true;
  });
}

Status ListenerSet::reachable(const Generation& generation) const {
  for (std::size_t i = 0; i < generation.plan().sockets.size(); ++i) {
    const Entry* entry = entry_of(generation, i);
    if (entry == nullptr || !entry->steered) continue;
    const auto cookie = entry->steered->cookie(generation.slot());
    if (!cookie || *cookie) continue;  // what the kernel doesn't tell is no verdict
    return Error(Code::probe_failed, "generation " + std::to_string(generation.number()) + " (" +
                                         generation.version() + ") does not listen any more")
        .expected("connections at " + entry->spec.address.text())
        .got("its socket was shut down");
  }
  return base::ok();
}

listen::AcceptQueue ListenerSet::queues(const Generation& generation) const {
  listen::AcceptQueue total;
  const std::vector<OwnSocket>& sockets = generation.plan().sockets;
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    const Entry* entry = entry_of(generation, i);
    if (entry == nullptr || entry->shared || entry->spec.address.transport == Transport::udp)
      continue;
    const auto queue = entry->spec.address.is_inet()
                           ? listen::accept_queue(sockets[i].fd.get())
                           : listen::unix_accept_queue(sockets[i].fd.get());
    if (!queue) continue;
    total.waiting += queue->waiting;
    total.limit += queue->limit;
  }
  return total;
}

bool ListenerSet::shares(const Generation& generation) const {
  for (std::size_t i = 0; i < generation.plan().sockets.size(); ++i)
    if (const Entry* entry = entry_of(generation, i); entry != nullptr && entry->shared)
      return true;
  return false;
}

bool ListenerSet::is_shared_with_others(const Generation& generation, std::size_t listener) const {
  const Entry* entry = entry_of(generation, listener);
  return entry != nullptr && entry->shared && entry->users.size() > 1;
}

Status ListenerSet::take_over(const listen::ListenerSpec& spec, int fd, listen::Slot slot,
                              std::uint64_t generation) {
  Entry& entry = entries_[key_of(spec)];
  entry.spec = spec;
  entry.users.insert(generation);
  if (spec.address.transport == Transport::unix_path)
    return listen::adopt_public_name(spec, generation);
  if (policy_ == nullptr || !spec.address.is_inet()) {
    UPD_ASSIGN(entry.shared, duplicate(fd));
    return base::ok();
  }
  UPD_ASSIGN(entry.steered, listen::SteeredListener::create(*policy_));
  return entry.steered->reattach(spec, {{slot, fd}});
}

std::vector<std::pair<std::string, Status>> ListenerSet::check() {
  std::vector<std::pair<std::string, Status>> lost;
  for (auto& [key, entry] : entries_) {
    if (!entry.steered) continue;
    const auto attached = entry.steered->attached();
    if (!attached || *attached) continue;
    lost.emplace_back(key, entry.steered->reattach(entry.spec));
  }
  return lost;
}

base::Json ListenerSet::described(const Generation& generation) const {
  base::Json all = base::Json::array();
  const std::vector<listen::Address> where = addresses(generation);
  const auto& sockets = generation.plan().sockets;
  if (where.size() != sockets.size()) return all;
  for (std::size_t i = 0; i < where.size(); ++i) {
    bool proxy_protocol = false;
    for (const release::Listener& listener : generation.plan().run.service.listeners)
      if (listener.name == sockets[i].listener) proxy_protocol = listener.proxy_protocol;
    all.push_back({{"name", sockets[i].listener},
                   {"address", where[i].text()},
                   {"proxy_protocol", proxy_protocol}});
  }
  return all;
}

std::vector<listen::Address> ListenerSet::addresses(const Generation& generation) const {
  std::vector<listen::Address> all;
  for (std::size_t i = 0; i < generation.plan().sockets.size(); ++i) {
    const Entry* entry = entry_of(generation, i);
    if (entry == nullptr) continue;
    listen::Address address = entry->spec.address;
    if (address.transport == Transport::unix_path)
      address.path = listen::generation_path(entry->spec, generation.number());
    all.push_back(std::move(address));
  }
  return all;
}

std::vector<listen::Address> ListenerSet::bound_addresses(const Generation& generation) const {
  std::vector<listen::Address> all;
  const std::vector<OwnSocket>& sockets = generation.plan().sockets;
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    if (entry_of(generation, i) == nullptr) continue;
    if (auto address = listen::address_of_socket(sockets[i].fd.get()))
      all.push_back(std::move(*address));
  }
  return all;
}

listen::SlotCounters ListenerSet::counters() const {
  listen::SlotCounters sum{};
  for (const auto& [key, entry] : entries_) {
    if (!entry.steered) continue;
    const auto one = entry.steered->counters();
    if (!one) continue;
    for (std::size_t row = 0; row < sum.size(); ++row) {
      sum[row].selected += (*one)[row].selected;
      sum[row].probes += (*one)[row].probes;
      sum[row].fallback += (*one)[row].fallback;
      sum[row].migrated += (*one)[row].migrated;
      sum[row].critical += (*one)[row].critical;
    }
  }
  return sum;
}

// --- succession

Json ListenerSet::to_json() const {
  Json list = Json::array();
  for (const auto& [key, entry] : entries_) {
    Json one = {{"key", key}, {"users", entry.users}};
    if (!entry.spec.options.empty()) one["options"] = options_json(entry.spec.options);
    if (entry.spec.nonblocking) one["nonblocking"] = true;
    if (entry.steered)
      if (const auto ids = entry.steered->ids()) one["ids"] = ids_json(*ids);
    list.push_back(std::move(one));
  }
  return list;
}

std::map<std::string, int> ListenerSet::shared_sockets() const {
  std::map<std::string, int> all;
  for (const auto& [key, entry] : entries_)
    if (entry.shared) all[shared_name(key)] = entry.shared.get();
  return all;
}

std::vector<std::string> ListenerSet::no_longer_shared(const Generation& generation) const {
  std::vector<std::string> names;
  const auto& listeners = generation.plan().run.service.listeners;
  for (std::size_t i = 0; i < generation.plan().sockets.size(); ++i)
    if (const auto spec = spec_of(listeners[i], generation.plan().run))
      if (const std::string key = key_of(*spec); !entries_.contains(key))
        names.push_back(shared_name(key));
  return names;
}

std::vector<listen::Member> ListenerSet::members_of(
    const Entry& entry, const std::vector<const Generation*>& generations) const {
  std::vector<listen::Member> members;
  for (const Generation* generation : generations)
    for (std::size_t i = 0; i < generation->plan().sockets.size(); ++i)
      if (entry_of(*generation, i) == &entry && generation->plan().sockets[i].fd)
        members.push_back({generation->slot(), generation->plan().sockets[i].fd.get()});
  return members;
}

// A slot whose generation the state does not know would be taken for ever.
void ListenerSet::empty_other_slots(listen::SteeredListener& listener,
                                    const std::vector<const Generation*>& generations) {
  std::set<listen::Slot> used;
  for (const Generation* generation : generations) used.insert(generation->slot());
  for (unsigned slot = 0; slot < listen::kMaxSlots; ++slot)
    if (!used.contains(static_cast<listen::Slot>(slot)))
      static_cast<void>(listener.remove(static_cast<listen::Slot>(slot)));
}

Status ListenerSet::adopt(const Json& state, const std::vector<const Generation*>& generations,
                          std::map<std::string, UniqueFd>& held) {
  for (const Generation* generation : generations) {
    const auto& listeners = generation->plan().run.service.listeners;
    for (std::size_t i = 0; i < generation->plan().sockets.size(); ++i) {
      UPD_ASSIGN(const listen::ListenerSpec spec, spec_of(listeners[i], generation->plan().run));
      Entry& entry = entries_[key_of(spec)];
      if (entry.users.empty()) entry.spec = spec;
      entry.users.insert(generation->number());
    }
  }
  for (const Json& one : state) {
    const auto found = entries_.find(one.value("key", std::string()));
    if (found == entries_.end()) continue;
    found->second.spec.options = options_from(one.value("options", Json::array()));
    found->second.spec.nonblocking = one.value("nonblocking", false);
  }
  for (auto& [key, entry] : entries_) {
    const bool inet = entry.spec.address.is_inet();
    if (entry.spec.address.transport == Transport::unix_path) continue;
    if (policy_ == nullptr || !inet) {
      if (const auto found = held.find(shared_name(key)); found != held.end()) {
        entry.shared = std::move(found->second);
      } else if (const auto members = members_of(entry, generations); !members.empty()) {
        UPD_ASSIGN(entry.shared, duplicate(members.front().fd));  // the holder died, too
      }
      continue;
    }
    Json ids;
    for (const Json& one : state)
      if (one.value("key", std::string()) == key && one.contains("ids")) ids = one["ids"];
    if (ids.is_object()) {
      auto reopened = listen::SteeredListener::reopen(*policy_, ids_from(ids));
      if (reopened) {
        entry.steered = std::move(*reopened);
        empty_other_slots(*entry.steered, generations);
        continue;
      }
    }
    UPD_ASSIGN(entry.steered, listen::SteeredListener::create(*policy_));
    UPD_TRY(entry.steered->reattach(entry.spec, members_of(entry, generations)));
  }
  return base::ok();
}

}  // namespace updagent::service
