// Questions to sock_diag(7): one netlink socket per question, bounded in size and time.
#pragma once

#include <linux/netlink.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.hpp"

namespace updagent::listen {

// Connections of one port that a node can sensibly have; more is refused, not cut off.
inline constexpr std::size_t kMaxDiagAnswers = 2'000'000;

// The payload of one answer: the fixed header and then attributes.
class DiagAnswer {
 public:
  explicit DiagAnswer(std::span<const std::byte> payload) : payload_(payload) {}
  // The fixed part; null when the answer is too short for it.
  template <class Header>
  const Header* header() const {
    return payload_.size() < sizeof(Header) ? nullptr
                                            : reinterpret_cast<const Header*>(payload_.data());
  }
  // The value of an attribute behind a fixed part of `header_size`, empty when absent.
  std::span<const std::byte> attribute(std::size_t header_size, std::uint16_t type) const;

 private:
  std::span<const std::byte> payload_;
};

using DiagVisitor = std::function<void(const DiagAnswer&)>;

// One dump. False when the kernel dropped answers or changed its tables on the way: ask again.
base::Result<bool> dump_once(std::span<const std::byte> request, const DiagVisitor& visit);
// One exact question; false when there is no such socket.
base::Result<bool> ask_exactly(std::span<const std::byte> request, const DiagVisitor& visit);

template <class Request>
std::span<const std::byte> bytes_of(const Request& request) {
  return std::as_bytes(std::span(&request, 1));
}

inline constexpr int kMaxDumpTries = 5;  // under a storm of connections one may not come through
base::Error dump_incomplete();
base::Error too_many_answers();

// `parse` turns an answer into an item, or into nothing when it is not wanted.
template <class Item>
base::Status collect(std::span<const std::byte> request, std::vector<Item>& items,
                     const std::function<std::optional<Item>(const DiagAnswer&)>& parse) {
  const std::size_t before = items.size();
  for (int i = 0; i < kMaxDumpTries; ++i) {
    items.resize(before);
    std::size_t seen = 0;
    UPD_ASSIGN(const bool complete, dump_once(request, [&](const DiagAnswer& answer) {
                 if (++seen > kMaxDiagAnswers) return;
                 if (auto item = parse(answer)) items.push_back(std::move(*item));
               }));
    if (seen > kMaxDiagAnswers) return too_many_answers();
    if (complete) return base::ok();
  }
  return dump_incomplete();
}

}  // namespace updagent::listen
