// Reads one HTTP/1.1 response as its bytes come (RFC 9112) and checks the body on the way.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tests/handoff/load/spec.hpp"

namespace load {

class Response {
 public:
  enum class State { incomplete, complete, invalid };

  explicit Response(const Spec& spec) : spec_(&spec) {}

  // Never called again once it is complete or invalid.
  State feed(std::string_view bytes);
  // The other end has closed: complete if that is how the body ends.
  State end();

  bool begun() const { return begun_; }
  std::uint64_t received() const { return received_; }  // bytes, head included
  int status() const { return status_; }
  bool keep_alive() const { return keep_alive_; }
  const std::string& generation() const { return generation_; }
  // After `complete`: empty, or what is wrong with the body.
  std::string body_problem() const;
  const std::string& syntax_problem() const { return syntax_problem_; }

 private:
  enum class Part { head, sized, until_end, chunk_size, chunk_data, chunk_end, trailer, done };

  State fail(std::string why);
  State feed_head(std::string_view bytes);
  bool read_head(std::string_view head);
  bool read_header(std::string_view name, std::string_view value);
  void begin_body();
  State feed_body(std::string_view bytes);
  std::size_t take_line(std::string_view bytes);  // into line_; how much was used
  void take_data(std::string_view bytes);
  bool end_line();

  const Spec* spec_;
  Part part_ = Part::head;
  bool begun_ = false;
  std::uint64_t received_ = 0;
  std::string head_;
  std::string line_;  // of the chunked form, until its newline has come
  int status_ = 0;
  bool keep_alive_ = true;
  bool chunked_ = false;
  bool has_length_ = false;
  std::uint64_t left_ = 0;  // of the body or the chunk
  std::string generation_;
  std::uint64_t body_size_ = 0;
  std::string body_;  // for Check::text
  bool mismatch_ = false;
  std::uint64_t mismatch_at_ = 0;
  std::string extra_;
  std::string syntax_problem_;
};

// How many bytes of `bytes`, which begin at `offset` of a stream, are as they should be.
std::size_t matching_stream_bytes(std::uint64_t offset, std::string_view bytes);

}  // namespace load
