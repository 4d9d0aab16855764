#include "agent/release/envelope_part.hpp"

#include <vector>

#include "agent/base/text.hpp"
#include "agent/release/artifact_reader.hpp"
#include "agent/release/decompress.hpp"
#include "agent/release/lockstep.hpp"
#include "agent/release/looks_like.hpp"
#include "agent/release/tar_header.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using Bytes = std::span<const std::uint8_t>;

// The largest first part, and one byte to notice a larger one.
constexpr std::size_t kFirstPartBuffer = kTarBlock + kMaxEnvelopeBytes + 1;
static_assert(kMaxEnvelopeBytes % kTarBlock == 0, "the largest envelope has no padding");

Status check_size(std::uint64_t size) {
  if (size > 0 && size <= kMaxEnvelopeBytes) return base::ok();
  return Error(Code::envelope_invalid, "the size of the envelope")
      .expected("1 to " + std::to_string(kMaxEnvelopeBytes) + " bytes")
      .got(std::to_string(size));
}

Error not_alone(std::size_t expected, std::string got) {
  return Error(Code::header_unsupported, "the envelope has no gzip member or zstd frame of its own")
      .expected(std::to_string(expected) + " bytes in the first one")
      .got(std::move(got))
      .hint("`updagent pack` writes it so; gzip or zstd over the whole tar file does not");
}

bool begins_with_envelope(Bytes bytes) {
  return looks_like_tar(bytes) && raw_path(bytes.first<kTarBlock>()) == kEnvelopePath;
}

struct Head {
  std::vector<std::uint8_t> bytes;  // uncompressed
  bool ended = false;
};

Result<Head> decompress_head(Bytes head) {
  UPD_ASSIGN(Decompressor decompressor, Decompressor::for_head(head));
  Head out;
  out.bytes.resize(kFirstPartBuffer);
  std::size_t filled = 0;
  while (!out.ended && filled < out.bytes.size()) {
    UPD_ASSIGN(const DecodeStep step,
               decompressor.step(head, std::span(out.bytes).subspan(filled)));
    head = head.subspan(step.consumed);
    filled += step.produced;
    out.ended = step.ended;
    if (step.consumed == 0 && step.produced == 0) break;
  }
  out.bytes.resize(filled);
  return out;
}

}  // namespace

Result<std::optional<std::string>> envelope_of_first_part(Bytes bytes, bool ended) {
  if (bytes.size() < kTarBlock && !ended) return std::nullopt;
  if (!begins_with_envelope(bytes)) return no_envelope(bytes);
  UPD_ASSIGN(const TarHeader header, decode_tar_header(bytes.first<kTarBlock>(), {}));
  UPD_TRY(check_metadata_entry(header, kEnvelopePath));
  UPD_TRY(check_size(header.size));
  const auto size = static_cast<std::size_t>(header.size);
  const std::size_t whole = kTarBlock + size + static_cast<std::size_t>(padding_after(size));
  if (bytes.size() > whole) return not_alone(whole, "more");
  if (!ended) return std::nullopt;
  if (bytes.size() < whole) return not_alone(whole, std::to_string(bytes.size()));
  const Bytes content = bytes.subspan(kTarBlock, size);
  return std::string(content.begin(), content.end());
}

Result<std::optional<std::string>> envelope_from_head(std::string_view head) {
  if (head.size() < kSniffBytes) return std::nullopt;
  const Bytes bytes(reinterpret_cast<const std::uint8_t*>(head.data()), head.size());
  UPD_ASSIGN(const Head first, decompress_head(bytes));
  UPD_ASSIGN(auto envelope, envelope_of_first_part(first.bytes, first.ended));
  if (envelope || head.size() < kHeadBytes) return envelope;
  return Error(Code::not_an_artifact, "no envelope at the start of the file")
      .expected("one within " + base::human_bytes(kHeadBytes))
      .got("none");
}

}  // namespace updagent::release
