// Writes manifest.json in its canonical form. docs/artifact.md, "Manifest".
#include "agent/release/manifest.hpp"

#include <algorithm>
#include <string>

#include "agent/base/strict_json.hpp"
#include "agent/release/describe.hpp"
#include "agent/release/manifest_json.hpp"
#include "agent/release/rules.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::ok;
using base::Status;

using Sink = std::function<base::Status(std::string_view)>;

constexpr std::size_t kMaxPiece = 64UL * 1024;

// Hands the text on in pieces and refuses what no reader would take.
class PieceWriter {
 public:
  explicit PieceWriter(const Sink& sink) : sink_(sink) { piece_.reserve(kMaxPiece); }

  Status write(std::string_view text) {
    if (text.size() > kMaxManifestBytes - total_)
      return Error(Code::manifest_too_large, "the manifest is too large")
          .expected("at most " + std::to_string(kMaxManifestBytes) + " bytes")
          .got("more");
    total_ += text.size();
    while (!text.empty()) {
      const std::size_t count = std::min(text.size(), kMaxPiece - piece_.size());
      piece_ += text.substr(0, count);
      text.remove_prefix(count);
      if (piece_.size() == kMaxPiece) UPD_TRY(flush());
    }
    return ok();
  }

  Status flush() {
    if (piece_.empty()) return ok();
    UPD_TRY(sink_(piece_));
    piece_.clear();
    return ok();
  }

 private:
  const Sink& sink_;
  std::string piece_;
  std::uint64_t total_ = 0;
};

// Paths and targets have no control bytes (EntryTable), so two characters alone need a backslash.
void append_quoted(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  out += '"';
}

void append_row(std::string& out, const EntryView& entry) {
  out += R"({"mode":")" + mode_text(entry.mode) + R"(","mtime":)" + std::to_string(entry.mtime);
  out += R"(,"path":)";
  append_quoted(out, entry.path);
  if (entry.type == EntryType::file) {
    out += R"(,"sha256":")" + entry.sha256.hex() + R"(","size":)" + std::to_string(entry.size);
  } else if (entry.type != EntryType::directory) {
    out += R"(,"target":)";
    append_quoted(out, entry.link_target);
  }
  ((out += R"(,"type":")") += entry_type_name(entry.type)) += "\"}";
}

Status write_entries(const EntryTable& entries, PieceWriter& writer) {
  UPD_TRY(writer.write("["));
  std::string line;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    line = i == 0 ? "\n" : ",\n";
    append_row(line, entries.at(i));
    UPD_TRY(writer.write(line));
  }
  return writer.write(entries.size() == 0 ? "]" : "\n]");
}

Status write_json(const Json& description, const EntryTable& entries, PieceWriter& writer) {
  std::string_view separator = "{";
  for (const auto& [key, value] : description.items()) {
    UPD_TRY(writer.write(separator));
    UPD_TRY(writer.write(Json(key).dump() + ':'));
    UPD_TRY(value.is_null() ? write_entries(entries, writer) : writer.write(value.dump()));
    separator = ",";
  }
  return writer.write("}\n");
}

}  // namespace

base::Status write_manifest(const Manifest& manifest, const Sink& sink) {
  // What a reader would refuse is never signed.
  UPD_TRY(check_description(manifest, kManifestDialect));
  UPD_TRY(check_program(manifest, kManifestDialect));
  UPD_TRY(manifest.entries.check_links());
  UPD_TRY(manifest.entries.check_twins());
  Json description = description_to_json(manifest);
  description["entries"] = nullptr;  // its place in the order of the keys
  const std::size_t bytes = description.dump().size();
  if (bytes > kMaxDescriptionBytes)
    return Error(Code::manifest_too_large, "the manifest has too much beside its entries")
        .expected("at most " + std::to_string(kMaxDescriptionBytes) + " bytes")
        .got(std::to_string(bytes));
  PieceWriter writer(sink);
  UPD_TRY(write_json(description, manifest.entries, writer));
  return writer.flush();
}

}  // namespace updagent::release
