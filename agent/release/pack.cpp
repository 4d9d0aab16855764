// pack: gather, describe, hash, sign, write. Each file is read twice, once for its digest and once
// for the archive, because the manifest stands before the contents.
#include "agent/release/pack.hpp"

#include <malloc.h>

#include <algorithm>
#include <span>

#include "agent/base/files.hpp"
#include "agent/release/compress.hpp"
#include "agent/release/describe.hpp"
#include "agent/release/envelope_member.hpp"
#include "agent/release/pack_description.hpp"
#include "agent/release/pack_files.hpp"
#include "agent/release/pack_input.hpp"
#include "agent/release/pack_keys.hpp"
#include "agent/release/source_info.hpp"
#include "agent/release/tar_writer.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Status;
using Bytes = std::span<const std::uint8_t>;

constexpr std::size_t kReadBytes = 128 * 1024;
constexpr std::string_view kKeyNote = "this is a private key, and every node will get it";

base::Result<Compression> compression_of(const std::string& output) {
  if (output.ends_with(".tar.gz") || output.ends_with(".tgz")) return Compression::gzip;
  if (output.ends_with(".tar.zst")) return Compression::zstd;
  return Error(Code::usage, "the name of the output doesn't tell its compression")
      .expected("a name that ends in .tar.gz, .tgz or .tar.zst")
      .got(in_quotes(output));
}

InputRules rules_for(const PackRequest& request) {
  InputRules rules{file_id(request.output), {}};
  for (const std::string& secret : request.secrets)
    if (const auto id = file_id(secret)) rules.secrets.push_back(*id);
  return rules;
}

Error with_way_out(Error error) {
  if (!error.hint().empty()) return error;
  if (error.code() == Code::link_unsafe)
    return std::move(error).hint(
        "make the link relative with its target inside the packed tree, or leave it out");
  if (error.code() == Code::path_unsafe)
    return std::move(error).hint("rename it: a release has to mean the same on every file system");
  return error;
}

class Packer {
 public:
  Packer(const PackRequest& request, Compression compression, std::unique_ptr<PackInput> input)
      : request_(request),
        compression_(compression),
        input_(std::move(input)),
        keys_(request.secrets) {}

  base::Result<PackResult> run() {
    UPD_ASSIGN(entries_, input_->gather(notes_));
    if (entries_.empty())
      return Error(Code::usage, "there is nothing to pack in " + in_quotes(request_.input));
    UPD_ASSIGN(manifest_, describe_release(request_, *input_, entries_));
    UPD_TRY(hash_entries());
    note_missing_programs(manifest_, notes_);
    UPD_TRY(describe_source());
    UPD_ASSIGN(Spool manifest, write_manifest_spool());
    forget_table();
    UPD_ASSIGN(const std::string envelope,
               request_.make_envelope(manifest_.app, manifest_.version.text(), manifest_digest_));
    UPD_TRY(write_artifact(manifest, envelope));
    return result();
  }

 private:
  // --- what it holds ---
  Status hash_entries() {
    for (const InputEntry& entry : entries_) total_bytes_ += entry.size;
    if (!input_->directory().empty()) total_bytes_ *= 2;  // a directory's files are read twice
    contents_.reserve(entries_.size());
    // what is in the table is not held twice
    for (; !entries_.empty(); entries_.pop_front()) {
      const InputEntry entry = entries_.front();
      EntryView view{.path = entry.path,
                     .type = entry.type,
                     .mode = entry.mode,
                     .size = entry.size,
                     .mtime = entry.mtime,
                     .sha256 = {},
                     .link_target = entry.link_target};
      if (entry.type == EntryType::file) {
        UPD_ASSIGN(view.sha256, digest_of(entry));
        if (keys_.contains(view.sha256)) return is_the_private_key(entry.path);
      }
      if (auto added = manifest_.entries.add(view); !added)
        return with_way_out(std::move(added).error());
      contents_.push_back(entry.content);
      newest_ = std::max(newest_, entry.mtime);
      input_->drop(entry);
    }
    if (auto links = manifest_.entries.check_links(); !links)
      return with_way_out(std::move(links).error());
    if (auto twins = manifest_.entries.check_twins(); !twins)
      return with_way_out(std::move(twins).error());
    return base::ok();
  }

  base::Result<base::Digest> digest_of(const InputEntry& entry) {
    if (const auto known = input_->digest(entry)) {
      UPD_ASSIGN(const auto source, input_->open(entry));
      UPD_ASSIGN(const std::size_t count, source->read(std::span(buffer_).first(kKeyHeadBytes)));
      note_key(entry, Bytes(buffer_).first(count));
      return *known;
    }
    bool is_head = true;
    UPD_TRY(read_content(*input_, entry, buffer_, [&](Bytes bytes) {
      if (std::exchange(is_head, false)) note_key(entry, bytes);
      sha256_.update(bytes);
      progress(bytes.size());
      return base::ok();
    }));
    return sha256_.finish();
  }

  void note_key(const InputEntry& entry, Bytes head) {
    if (begins_with_private_key(head)) notes_.add(kKeyNote, entry.path);
  }

  // --- where it comes from ---
  Status describe_source() {
    const Environment environment = process_environment;
    UPD_ASSIGN(const auto epoch, source_date_epoch(environment));
    SourceInfo source = source_from_ci(environment);
    std::optional<GitInfo> git;
    if (!input_->directory().empty()) git = ask_git(environment);
    const std::string known = git ? git->source.revision : input_->commit();
    if (!known.empty()) {
      // the URL of another commit's repository would be a wrong claim
      if (known != source.revision) source.repository.clear();
      source.revision = known;
      if (git && !git->source.repository.empty()) source.repository = git->source.repository;
    }
    manifest_.source_revision = source.revision;
    manifest_.source_repository = source.repository;
    manifest_.builder = source.builder;
    // SOURCE_DATE_EPOCH moves this time alone: clamping the entries' times to one value would make
    // a web server's ETag the same for two releases
    manifest_.created = epoch ? *epoch : git ? git->committed_at : newest_;
    return base::ok();
  }

  std::optional<GitInfo> ask_git(const Environment& environment) {
    auto git = source_from_git(input_->directory(), environment);
    if (git && git->is_dirty)
      notes_.add("there are uncommitted changes: the revision " + git->source.revision +
                 " does not describe all of the input");
    if (!git && base::exists(input_->directory() + "/.git"))
      notes_.add(
          "git says nothing about the input (not installed, no commit, or the folder "
          "belongs to someone else): packed without a source revision");
    return git;
  }

  // --- the file ---
  base::Result<Spool> write_manifest_spool() {
    UPD_ASSIGN(Spool spool, Spool::create());
    const auto append = [&](std::string_view text) -> Status {
      const Bytes bytes(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
      sha256_.update(bytes);
      if (auto appended = spool.append(bytes); !appended) return appended;
      if (spool.size() <= kMaxManifestBytes) return base::ok();
      return Error(Code::manifest_too_large, "the manifest is too large")
          .expected("at most " + std::to_string(kMaxManifestBytes) + " bytes")
          .got("more")
          .hint("pack fewer files or shorter paths");
    };
    UPD_TRY(write_manifest(manifest_, append));
    manifest_digest_ = sha256_.finish();
    return spool;
  }

  // The spooled manifest says the same; a compressor wants the memory.
  void forget_table() {
    entry_count_ = manifest_.entries.size();
    content_bytes_ = manifest_.entries.total_file_bytes();
    manifest_.entries = EntryTable();
    ::malloc_trim(0);
  }

  Status write_artifact(const Spool& manifest, const std::string& envelope) {
    UPD_ASSIGN(OutputFile out, OutputFile::create(request_.output));
    UPD_ASSIGN(const auto compressor,
               Compressor::make(compression_, request_.compression_level,
                                [&](Bytes bytes) { return out.write(bytes); }));
    UPD_TRY(write_envelope_member(*compressor, envelope, manifest_.created));
    TarWriter tar([&](Bytes bytes) { return compressor->write(bytes); });
    UPD_TRY(write_manifest_entry(tar, manifest));
    UPD_TRY(write_entries(tar, manifest));
    UPD_TRY(tar.finish());
    UPD_TRY(compressor->end_member());
    UPD_ASSIGN(file_digest_, out.commit());
    file_bytes_ = out.size();
    return base::ok();
  }

  Status write_manifest_entry(TarWriter& tar, const Spool& manifest) {
    UPD_TRY(tar.begin({.path = kManifestPath,
                       .type = EntryType::file,
                       .mode = 0644,
                       .size = manifest.size(),
                       .mtime = manifest_.created,
                       .sha256 = {},
                       .link_target = {}}));
    Spool::Part part(manifest, 0, manifest.size());
    for (;;) {
      UPD_ASSIGN(const std::size_t count, part.read(buffer_));
      if (count == 0) return tar.end();
      UPD_TRY(tar.content(Bytes(buffer_).first(count)));
    }
  }

  Status write_entries(TarWriter& tar, const Spool& manifest) {
    Spool::Part again(manifest, 0, manifest.size());
    Status written = base::ok();  // without what a reader of manifests would add to its errors
    std::size_t index = 0;
    const auto read = parse_description(again, [&](const EntryView& view) {
      written = write_entry(tar, view, contents_[index++]);
      return written;
    });
    return written && !read ? Status(read.error()) : written;
  }

  Status write_entry(TarWriter& tar, const EntryView& view, std::uint32_t content) {
    UPD_TRY(tar.begin(view));
    if (view.type == EntryType::file) UPD_TRY(write_content(tar, view, content));
    return tar.end();
  }

  Status write_content(TarWriter& tar, const EntryView& view, std::uint32_t content) {
    InputEntry entry;
    entry.path = view.path;
    entry.mode = view.mode;
    entry.size = view.size;
    entry.mtime = view.mtime;
    entry.content = content;
    UPD_TRY(read_content(*input_, entry, buffer_, [&](Bytes bytes) {
      sha256_.update(bytes);
      progress(bytes.size());
      return tar.content(bytes);
    }));
    if (sha256_.finish() != view.sha256) return changed_while_packed(view.path);
    return base::ok();
  }

  void progress(std::size_t bytes) {
    done_bytes_ += bytes;
    if (request_.on_progress) request_.on_progress(done_bytes_, total_bytes_);
  }

  PackResult result() const {
    return {.app = manifest_.app,
            .version = manifest_.version.text(),
            .manifest_digest = manifest_digest_,
            .file_digest = file_digest_,
            .entries = entry_count_,
            .content_bytes = content_bytes_,
            .file_bytes = file_bytes_,
            .notes = notes_.lines()};
  }

  const PackRequest& request_;
  Compression compression_;
  std::unique_ptr<PackInput> input_;
  PackNotes notes_;
  SigningKeys keys_;
  InputEntries entries_;                 // until they are in the table
  std::vector<std::uint32_t> contents_;  // of each entry, by the table's index
  std::size_t entry_count_ = 0;
  std::uint64_t content_bytes_ = 0;
  std::int64_t newest_ = 0;
  Manifest manifest_;
  base::Digest manifest_digest_;
  base::Digest file_digest_;
  std::uint64_t file_bytes_ = 0;
  base::Sha256 sha256_;
  std::vector<std::uint8_t> buffer_ = std::vector<std::uint8_t>(kReadBytes);
  std::uint64_t done_bytes_ = 0;
  std::uint64_t total_bytes_ = 0;
};

}  // namespace

base::Result<PackResult> pack(const PackRequest& request) {
  UPD_ASSIGN(const Compression compression, compression_of(request.output));
  UPD_ASSIGN(auto input, open_pack_input(request.input, rules_for(request)));
  return Packer(request, compression, std::move(input)).run();
}

}  // namespace updagent::release
