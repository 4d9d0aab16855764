// Gets an artifact's bytes. Start here for agent/fetch/: it promises that what it hands over is one
// version of one file, resumed across dead links, killed processes and reboots, never a mix of two.
// It trusts nothing it got: transport security is a bonus, the signature decides.
// RFC 9110 (conditional and range requests, Retry-After), RFC 7233 semantics of If-Range.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/base/interrupt.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::fetch {

struct Limits {
  base::Milliseconds connect_timeout{20'000};
  std::uint64_t low_speed_bytes = 100;  // per second, over low_speed_time: the link is dead
  base::Milliseconds low_speed_time{30'000};
  base::Milliseconds backoff_first{1'000};      // doubled after each failure, with jitter of +-50 %
  base::Milliseconds backoff_max{60'000};       // Retry-After may ask for more, up to give_up_after
  base::Milliseconds give_up_after{3'600'000};  // without one new byte
  int max_redirects = 8;
  std::uint64_t max_bytes = 16ULL << 30;  // of the artifact
  std::uint64_t bytes_per_second = 0;     // 0: no cap
};

struct Credentials {
  std::string ca_file;             // "" = the system's
  std::string client_certificate;  // PEM files, "" = none
  std::string client_key;
  bool use_netrc = false;
  std::string netrc_file;  // "" = ~/.netrc
};

enum class Waiting { none, link_lost, server_busy };  // what the wait between two attempts is for

struct Progress {
  std::uint64_t bytes = 0;             // of the artifact that are on disk
  std::optional<std::uint64_t> total;  // if the server said
  std::uint64_t resumed_from = 0;      // bytes that an earlier attempt had left
  Waiting waiting = Waiting::none;
  base::Milliseconds retry_in{0};  // while waiting
  std::string last_problem;        // while waiting: "connection refused", "HTTP 503"
};

struct Request {
  std::string url;                 // https, http, or file
  std::string download_directory;  // ROOT/downloads: part files and their state, one pair per URL
  Limits limits;
  Credentials credentials;
  base::Interrupt* interrupt = nullptr;
  std::function<void(const Progress&)> on_progress;
  // Called with the first bytes (up to head_bytes, or the whole file) once the server has confirmed
  // that they are current: false ends the fetch early and in good order (stopped_early). Called
  // once; again only if the file was replaced on the server meanwhile and begins with other bytes.
  std::size_t head_bytes = 0;
  std::function<base::Result<bool>(std::string_view head)> on_head;
};

struct Fetched {
  base::UniqueFd file;           // at position 0; invalid if stopped_early
  std::uint64_t bytes = 0;       // of the artifact
  std::uint64_t downloaded = 0;  // over the network, in this run
  std::uint64_t resumed_from = 0;
  bool stopped_early = false;
  // False: the server gave no length and ended its answer by closing the connection, as a link that
  // is cut does too. If the file turns out to end too early: cut_download().
  bool end_is_certain = true;
};

bool is_url(std::string_view source);  // http:, https:, file:
// Without user, password and query values: for logs and the database.
std::string redacted_url(std::string_view url);

// Blocks. Code::fetch_failed with the last problem and how much is kept, Code::too_large,
// Code::interrupted, Code::no_space.
base::Result<Fetched> fetch(const Request& request);
// The error that ends a run with such a file: Code::fetch_failed, the bytes are kept and the next
// run asks for the rest. `refusal` is what its reader said.
base::Error cut_download(std::string_view url, const base::Error& refusal);
// After a deployment ended: the part file of this URL is not needed any more.
void forget(const std::string& download_directory, const std::string& url);
// Removes part files that nobody touched for `older_than`, and the oldest past `max_total_bytes`.
// Never one that is locked by a running fetch.
base::Status sweep(const std::string& download_directory, base::Milliseconds older_than,
                   std::uint64_t max_total_bytes);

}  // namespace updagent::fetch
