#include "agent/release/artifact_reader.hpp"

#include <utility>

#include "agent/release/block_stream.hpp"
#include "agent/release/describe.hpp"
#include "agent/release/envelope_part.hpp"
#include "agent/release/lockstep.hpp"
#include "agent/release/tar_parser.hpp"
#include "agent/release/tar_profile.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using Bytes = std::span<const std::uint8_t>;

// What has been read; after a failure nothing can be.
enum class Stage { nothing, envelope, manifest, entries, failed };

Error ended_before(std::string_view path) {
  return Error(Code::entry_missing, "entry " + in_quotes(path) + " is missing")
      .expected(in_quotes(path))
      .got("the end of the archive");
}

Status check_digest(const EntryView& entry, const base::Digest& got) {
  if (entry.sha256 == got) return base::ok();
  return Error(Code::entry_digest,
               "the bytes of " + in_quotes(entry.path) + " are not those that were signed")
      .expected("sha256 " + entry.sha256.hex())
      .got(got.hex());
}

}  // namespace

struct ArtifactReader::Impl {
  Impl(base::ByteSource& source, base::Interrupt* interrupt) : stream(source, interrupt) {}

  Result<const Block*> next_block();
  Result<Bytes> pull();
  Status enter(Stage from);
  Result<std::string> first_part();
  Result<std::optional<TarHeader>> next_entry();
  Result<TarHeader> expect_entry(std::string_view path);
  Status read_data(std::uint64_t size, const std::function<Status(Bytes)>& use);
  Status deliver(const EntryView& entry, EntrySink& sink, const std::function<void()>& on_bytes);
  Status deliver_file(const EntryView& entry, EntrySink& sink,
                      const std::function<void()>& on_bytes);
  Status finish(const EntryTable& table);

  BlockStream stream;
  TarProfile profile;
  TarParser parser{[this] { return pull(); }};
  const Block* first_block = nullptr;  // looked at for the envelope, not yet given to the parser
  Stage stage = Stage::nothing;
  std::int64_t created = 0;  // the envelope's mtime
  ReadProgress progress;
  bool ended_too_early = false;
};

Result<const Block*> ArtifactReader::Impl::next_block() {
  auto block = stream.next();
  if (!block && stream.came_to_the_end()) ended_too_early = true;
  return block;
}

// The next bytes for the tar parser: those within the profile, then what is wrong with the others.
Result<Bytes> ArtifactReader::Impl::pull() {
  if (profile.failure()) return *profile.failure();
  const Block* block = std::exchange(first_block, nullptr);
  if (block == nullptr) {
    UPD_ASSIGN(block, next_block());
  }
  if (block == nullptr) {
    Status whole = profile.finish();
    ended_too_early = !whole;
    UPD_TRY(std::move(whole));
    return Bytes();
  }
  const std::size_t good = profile.feed(block->bytes());
  if (good == 0) return *profile.failure();
  return block->bytes().first(good);
}

Status ArtifactReader::Impl::enter(Stage from) {
  if (std::exchange(stage, Stage::failed) == from) return base::ok();
  return Error(Code::internal, "the artifact is read out of order");
}

Result<std::string> ArtifactReader::Impl::first_part() {
  UPD_TRY(stream.start());
  UPD_ASSIGN(first_block, next_block());
  if (first_block == nullptr) return Error(Code::internal, "a compressed file without contents");
  UPD_ASSIGN(auto envelope,
             envelope_of_first_part(first_block->bytes(), first_block->first_part_ends));
  if (envelope) return std::move(*envelope);
  UPD_TRY(next_block());  // the block broke off: this says why
  return Error(Code::internal, "the first block broke off without a reason");
}

// The header of the next entry, as two readers understand it; nothing at the archive's end.
Result<std::optional<TarHeader>> ArtifactReader::Impl::next_entry() {
  UPD_ASSIGN(const TarParser::Next parsed, parser.next());
  if (parsed.entry == nullptr) return std::nullopt;
  auto header = profile.take_header();
  if (!header) return Error(Code::header_unsupported, "a tar header that only libarchive sees");
  UPD_TRY(check_agreement(*header, parsed.entry, parsed.warning));
  return header;
}

Result<TarHeader> ArtifactReader::Impl::expect_entry(std::string_view path) {
  UPD_ASSIGN(auto header, next_entry());
  if (header) return std::move(*header);
  return ended_before(path);
}

Status ArtifactReader::Impl::read_data(std::uint64_t size,
                                       const std::function<Status(Bytes)>& use) {
  std::uint64_t done = 0;
  while (true) {
    UPD_ASSIGN(const Bytes bytes, parser.data(done));
    if (bytes.empty()) break;
    done += bytes.size();
    if (done > size) break;
    UPD_TRY(use(bytes));
  }
  if (done == size) return base::ok();
  return Error(Code::artifact_damaged, "an entry's data has another length than its header says")
      .expected(std::to_string(size) + " bytes")
      .got(std::to_string(done));
}

Status ArtifactReader::Impl::deliver_file(const EntryView& entry, EntrySink& sink,
                                          const std::function<void()>& on_bytes) {
  UPD_TRY(sink.begin_file(entry));
  base::Sha256 hash;
  const auto take = [&](Bytes bytes) -> Status {
    hash.update(bytes);
    UPD_TRY(sink.file_bytes(bytes));
    progress.bytes += bytes.size();
    on_bytes();
    return base::ok();
  };
  UPD_TRY(read_data(entry.size, take));
  UPD_TRY(check_digest(entry, hash.finish()));
  return sink.end_file();
}

Status ArtifactReader::Impl::deliver(const EntryView& entry, EntrySink& sink,
                                     const std::function<void()>& on_bytes) {
  switch (entry.type) {
    case EntryType::file:
      return deliver_file(entry, sink, on_bytes);
    case EntryType::directory:
      return sink.directory(entry);
    case EntryType::symlink:
      return sink.symlink(entry);
    case EntryType::hardlink:
      return sink.hardlink(entry);
  }
  return Error(Code::internal, "an entry of no known type");
}

// Nothing may follow the last entry: no entry, no bytes in the archive, none in the file.
Status ArtifactReader::Impl::finish(const EntryTable& table) {
  UPD_ASSIGN(const auto more, next_entry());
  if (more) return check_entry(*more, table, table.size());
  UPD_ASSIGN(const Bytes rest, pull());
  if (rest.empty()) return base::ok();
  return Error(Code::artifact_damaged, "bytes after the end of the archive");
}

ArtifactReader::ArtifactReader(base::ByteSource& source, base::Interrupt* interrupt)
    : impl_(std::make_unique<Impl>(source, interrupt)) {}

ArtifactReader::~ArtifactReader() = default;

Result<std::string> ArtifactReader::read_envelope() {
  UPD_TRY(impl_->enter(Stage::nothing));
  UPD_ASSIGN(std::string envelope, impl_->first_part());
  UPD_TRY(impl_->parser.open());
  UPD_ASSIGN(const TarHeader header, impl_->expect_entry(kEnvelopePath));
  impl_->created = header.mtime;
  impl_->stage = Stage::envelope;
  return envelope;
}

Status ArtifactReader::read_manifest(const base::Digest& expected,
                                     const std::function<Status(std::string_view)>& sink) {
  UPD_TRY(impl_->enter(Stage::envelope));
  UPD_ASSIGN(const TarHeader header, impl_->expect_entry(kManifestPath));
  UPD_TRY(check_metadata_entry(header, kManifestPath));
  if (header.size > kMaxManifestBytes)
    return Error(Code::manifest_too_large, "the size of the manifest")
        .expected(std::to_string(kMaxManifestBytes) + " bytes at most")
        .got(std::to_string(header.size));
  if (header.mtime != impl_->created)
    return Error(Code::header_unsupported, "the manifest's mtime is not the envelope's")
        .expected(std::to_string(impl_->created))
        .got(std::to_string(header.mtime));
  base::Sha256 hash;
  const auto take = [&](Bytes bytes) {
    hash.update(bytes);
    return sink({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  };
  UPD_TRY(impl_->read_data(header.size, take));
  const base::Digest got = hash.finish();
  if (got != expected)
    return Error(Code::manifest_digest, "the manifest is not the one that was signed")
        .expected("sha256 " + expected.hex())
        .got(got.hex());
  impl_->stage = Stage::manifest;
  return base::ok();
}

Status ArtifactReader::read_entries(const EntryTable& table, EntrySink& sink,
                                    const std::function<void(const ReadProgress&)>& on_progress) {
  UPD_TRY(impl_->enter(Stage::manifest));
  const auto report = [&] {
    impl_->progress.compressed_bytes = impl_->stream.compressed_bytes();
    if (on_progress) on_progress(impl_->progress);
  };
  for (std::size_t index = 0; index < table.size(); ++index) {
    const EntryView entry = table.at(index);
    UPD_ASSIGN(const TarHeader header, impl_->expect_entry(entry.path));
    UPD_TRY(check_entry(header, table, index));
    UPD_TRY(impl_->deliver(entry, sink, report));
    ++impl_->progress.entries;
    report();
  }
  UPD_TRY(impl_->finish(table));
  impl_->stage = Stage::entries;
  return base::ok();
}

bool ArtifactReader::ended_too_early() const {
  return impl_->ended_too_early;
}

base::Digest ArtifactReader::file_digest() const {
  return impl_->stream.file_digest();
}

}  // namespace updagent::release
