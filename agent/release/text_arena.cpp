#include "agent/release/text_arena.hpp"

namespace updagent::release {

std::uint32_t TextArena::add(std::string_view first, std::string_view second) {
  const std::size_t wanted = first.size() + second.size();
  if (pieces_.empty() || pieces_.back().text.size() + wanted > kPieceBytes) {
    pieces_.emplace_back();
    pieces_.back().text.reserve(kPieceBytes);
  }
  Piece& piece = pieces_.back();
  const std::size_t place = (pieces_.size() - 1) * kPieceBytes + piece.text.size();
  piece.text.append(first).append(second);
  ++piece.in_use;
  return static_cast<std::uint32_t>(place);
}

void TextArena::drop(std::uint32_t place) {
  Piece& piece = pieces_[place / kPieceBytes];
  if (--piece.in_use == 0 && &piece != &pieces_.back()) std::string().swap(piece.text);
}

std::size_t TextArena::memory_bytes() const {
  std::size_t bytes = pieces_.capacity() * sizeof(Piece);
  for (const Piece& piece : pieces_) bytes += piece.text.capacity();
  return bytes;
}

}  // namespace updagent::release
