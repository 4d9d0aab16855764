#include "tests/handoff/load/response.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace load {
namespace {

using View = std::string_view;
constexpr std::size_t kMaxHead = 64 * 1024;
constexpr std::size_t kMaxText = 64 * 1024;  // of a body that is compared as a whole
constexpr std::size_t kMaxLine = 4096;       // chunk sizes, trailers

bool same(View a, View b) {
  const auto lower = [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char x, char y) { return lower(x) == lower(y); });
}

View take_until(View& text, View separator) {
  const auto at = text.find(separator);
  const View first = text.substr(0, at);
  text.remove_prefix(at == View::npos ? text.size() : at + separator.size());
  return first;
}

View trim(View text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

}  // namespace

std::size_t matching_stream_bytes(std::uint64_t offset, View bytes) {
  constexpr std::size_t kLine = 16;
  constexpr View kDigits = "0123456789abcdef";
  std::array<char, kLine> line{};
  line[kLine - 1] = '\n';
  std::size_t at = 0;
  while (at < bytes.size()) {
    const std::uint64_t number = (offset + at) / kLine;
    const std::size_t from = (offset + at) % kLine;
    for (std::size_t i = 0; i < kLine - 1; ++i)
      line[i] = kDigits[number >> (4 * (kLine - 2 - i)) & 15];
    const View wanted(line.data() + from, std::min(kLine - from, bytes.size() - at));
    const View got = bytes.substr(at, wanted.size());
    if (got != wanted)
      return at + static_cast<std::size_t>(
                      std::mismatch(got.begin(), got.end(), wanted.begin()).first - got.begin());
    at += wanted.size();
  }
  return at;
}

Response::State Response::fail(std::string why) {
  syntax_problem_ = std::move(why);
  return State::invalid;
}

Response::State Response::feed(View bytes) {
  begun_ = begun_ || !bytes.empty();
  received_ += bytes.size();
  return part_ == Part::head ? feed_head(bytes) : feed_body(bytes);
}

Response::State Response::end() {
  if (part_ != Part::until_end) return State::incomplete;
  part_ = Part::done;
  return State::complete;
}

Response::State Response::feed_head(View bytes) {
  head_.append(bytes);
  const auto end = head_.find("\r\n\r\n");
  if (end == std::string::npos)
    return head_.size() > kMaxHead ? fail("a head without an end") : State::incomplete;
  if (!read_head(View(head_).substr(0, end))) return fail("not an HTTP response");
  const std::string rest = head_.substr(end + 4);
  if (status_ >= 100 && status_ < 200 && status_ != 101) {  // an interim response: one more comes
    head_.clear();
    return feed_head(rest);
  }
  begin_body();
  return feed_body(rest);
}

bool Response::read_head(View head) {
  View line = take_until(head, "\r\n");
  const View version = take_until(line, " ");
  const View code = take_until(line, " ");
  const auto [code_end, error] = std::from_chars(code.data(), code.data() + code.size(), status_);
  if (error != std::errc() || code.size() != 3 || code_end != code.data() + code.size())
    return false;
  if (version != "HTTP/1.1" && version != "HTTP/1.0") return false;
  keep_alive_ = version == "HTTP/1.1";
  while (!head.empty()) {
    View value = take_until(head, "\r\n");
    const View name = take_until(value, ":");
    if (!read_header(name, trim(value))) return false;
  }
  return true;
}

bool Response::read_header(View name, View value) {
  if (same(name, spec_->generation_header)) generation_ = value;
  if (same(name, "content-length")) {
    const auto length = parse_number(value);
    has_length_ = length.has_value();
    left_ = static_cast<std::uint64_t>(length.value_or(0));
    return has_length_;
  }
  if (same(name, "transfer-encoding")) chunked_ = same(value, "chunked");
  if (same(name, "connection") && same(value, "close")) keep_alive_ = false;
  if (same(name, "connection") && same(value, "keep-alive")) keep_alive_ = true;
  return true;
}

void Response::begin_body() {
  const bool none = status_ == 204 || status_ == 304 || spec_->method == "HEAD";
  if (none)
    part_ = Part::done;
  else if (chunked_)
    part_ = Part::chunk_size;
  else if (has_length_)
    part_ = left_ > 0 ? Part::sized : Part::done;
  else
    part_ = Part::until_end;
  if (part_ == Part::until_end) keep_alive_ = false;
}

// The rest of `bytes` after the end of the response is kept: nobody asked for it.
Response::State Response::feed_body(View bytes) {
  while (!bytes.empty() && part_ != Part::done) {
    if (part_ == Part::until_end) {
      take_data(bytes);
      return State::incomplete;
    }
    if (part_ == Part::sized || part_ == Part::chunk_data) {
      const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size()));
      take_data(bytes.substr(0, size));
      bytes.remove_prefix(size);
      left_ -= size;
      if (left_ == 0) part_ = part_ == Part::sized ? Part::done : Part::chunk_end;
      continue;
    }
    bytes.remove_prefix(take_line(bytes));
    if (line_.size() > kMaxLine) return fail("a chunk's head without an end");
    if (line_.ends_with("\r\n") && !end_line()) return fail("not a chunk");
  }
  if (part_ != Part::done) return State::incomplete;
  extra_ = bytes.substr(0, 1);
  return State::complete;
}

std::size_t Response::take_line(View bytes) {
  const auto newline = bytes.find('\n');
  const std::size_t size = newline == View::npos ? bytes.size() : newline + 1;
  line_.append(bytes.substr(0, size));
  return size;
}

bool Response::end_line() {
  const View line = View(line_).substr(0, line_.size() - 2);
  bool good = true;
  switch (part_) {
    case Part::chunk_size: {
      const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), left_, 16);
      good = error == std::errc() && (end == line.data() + line.size() || *end == ';');
      part_ = left_ > 0 ? Part::chunk_data : Part::trailer;
      break;
    }
    case Part::chunk_end:
      good = line.empty();
      part_ = Part::chunk_size;
      break;
    default:  // the trailer ends with an empty line
      if (line.empty()) part_ = Part::done;
  }
  line_.clear();
  return good;
}

void Response::take_data(View bytes) {
  if (spec_->check == Check::text && body_.size() < kMaxText) body_.append(bytes);
  if (spec_->check == Check::stream && !mismatch_) {
    const std::size_t good = matching_stream_bytes(body_size_, bytes);
    mismatch_ = good < bytes.size();
    mismatch_at_ = body_size_ + good;
  }
  body_size_ += bytes.size();
}

std::string Response::body_problem() const {
  if (!extra_.empty()) return "bytes after the end";
  if (mismatch_) return "wrong byte at " + std::to_string(mismatch_at_);
  if (spec_->bytes >= 0 && body_size_ != static_cast<std::uint64_t>(spec_->bytes))
    return std::to_string(body_size_) + " bytes";
  if (spec_->check == Check::text && body_ != spec_->text) return "another text";
  return "";
}

}  // namespace load
