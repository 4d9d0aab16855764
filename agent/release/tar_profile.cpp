#include "agent/release/tar_profile.hpp"

#include <algorithm>
#include <utility>

#include "agent/release/describe.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Status;
using Bytes = std::span<const std::uint8_t>;

Error after_the_end() {
  return Error(Code::artifact_damaged, "bytes after the end of the archive")
      .expected("two zero blocks, then nothing")
      .got("more data");
}

}  // namespace

std::size_t TarProfile::feed(Bytes bytes) {
  Bytes rest = bytes;
  while (!rest.empty() && !failure_) rest = step(rest);
  return bytes.size() - rest.size();
}

// Takes one region, or the part of it that is there, from the front; on failure it takes nothing.
Bytes TarProfile::step(Bytes bytes) {
  switch (expect_) {
    case Expect::header:
    case Expect::second_zero_block:
      return take_block(bytes);
    case Expect::pax_records:
      return take_pax_records(bytes);
    case Expect::pax_padding:
    case Expect::padding:
      return take_padding(bytes);
    case Expect::data:
      return take_data(bytes);
    case Expect::nothing:
      fail(after_the_end());
      return bytes;
  }
  fail(Error(Code::internal, "the tar profile lost its place"));
  return bytes;
}

Bytes TarProfile::take_block(Bytes bytes) {
  if (block_filled_ == 0 && bytes.size() >= kTarBlock) {  // the usual case: no copy
    if (auto status = on_block(bytes.first<kTarBlock>()); !status) {
      fail(std::move(status).error());
      return bytes;
    }
    return bytes.subspan(kTarBlock);
  }
  const std::size_t count = std::min(bytes.size(), kTarBlock - block_filled_);
  std::copy_n(bytes.begin(), count, block_.begin() + static_cast<std::ptrdiff_t>(block_filled_));
  block_filled_ += count;
  if (block_filled_ == kTarBlock) {
    block_filled_ = 0;
    if (auto status = on_block(block_); !status) {
      fail(std::move(status).error());
      return bytes;
    }
  }
  return bytes.subspan(count);
}

Bytes TarProfile::take_pax_records(Bytes bytes) {
  const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size()));
  pax_text_.append(reinterpret_cast<const char*>(bytes.data()), count);
  left_ -= count;
  if (left_ == 0) {
    auto records = decode_pax_records(pax_text_);
    if (!records) {
      fail(std::move(records).error());
      return bytes;
    }
    pax_ = std::move(*records);
    enter(Expect::pax_padding, padding_after(pax_text_.size()), Expect::header);
  }
  return bytes.subspan(count);
}

Bytes TarProfile::take_padding(Bytes bytes) {
  const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size()));
  const Bytes padding = bytes.first(count);
  if (std::any_of(padding.begin(), padding.end(), [](std::uint8_t byte) { return byte != 0; })) {
    fail(Error(Code::header_unsupported, "the padding behind an entry's data")
             .expected("zero bytes")
             .got("other bytes"));
    return bytes;
  }
  left_ -= count;
  if (left_ == 0) expect_ = Expect::header;
  return bytes.subspan(count);
}

Bytes TarProfile::take_data(Bytes bytes) {
  const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size()));
  left_ -= count;
  if (left_ == 0) enter(Expect::padding, padding_, Expect::header);
  return bytes.subspan(count);
}

Status TarProfile::on_block(TarBlock block) {
  const bool zero = is_zero_block(block);
  if (expect_ == Expect::second_zero_block) {
    if (!zero)
      return Error(Code::artifact_damaged, "data after one zero block")
          .expected("two zero blocks at the end of the archive")
          .got("one and more data");
    expect_ = Expect::nothing;
    return base::ok();
  }
  if (!zero) return on_header(block);
  if (pax_)
    return Error(Code::header_unsupported, "a pax header that no entry follows")
        .expected("the header of its entry")
        .got("the end of the archive");
  current_path_.clear();
  expect_ = Expect::second_zero_block;
  return base::ok();
}

Status TarProfile::on_header(TarBlock block) {
  current_path_ = pax_ && pax_->path ? *pax_->path : raw_path(block);
  if (pax_) return on_entry(block);
  UPD_ASSIGN(const auto pax_size, decode_pax_size(block));
  if (!pax_size) return on_entry(block);
  pax_text_.clear();
  enter(Expect::pax_records, *pax_size, Expect::header);
  return base::ok();
}

Status TarProfile::on_entry(TarBlock block) {
  UPD_ASSIGN(TarHeader header, decode_tar_header(block, pax_.value_or(PaxRecords{})));
  pax_.reset();
  padding_ = padding_after(header.size);
  enter(Expect::data, header.size, Expect::header);
  headers_.push_back(std::move(header));
  return base::ok();
}

void TarProfile::enter(Expect region, std::uint64_t bytes, Expect otherwise) {
  left_ = bytes;
  expect_ = bytes > 0 ? region : otherwise;
}

void TarProfile::fail(Error error) {
  failure_ = current_path_.empty()
                 ? std::move(error)
                 : std::move(error).with_context("entry " + in_quotes(current_path_));
}

Status TarProfile::finish() const {
  if (failure_) return *failure_;
  if (expect_ == Expect::nothing) return base::ok();
  const bool in_entry = left_ > 0 && expect_ != Expect::header;
  Error error = Error(Code::artifact_damaged, "the archive ends too early")
                    .expected("two zero blocks at its end")
                    .got(in_entry ? "the end, " + std::to_string(left_) +
                                        " bytes before the end of " + in_quotes(current_path_)
                                  : "the end");
  return std::move(error).hint("the file is cut short: fetch or copy it again");
}

std::optional<TarHeader> TarProfile::take_header() {
  if (headers_.empty()) return std::nullopt;
  TarHeader header = std::move(headers_.front());
  headers_.pop_front();
  return header;
}

}  // namespace updagent::release
