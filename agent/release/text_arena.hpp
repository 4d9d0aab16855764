// Many short texts in few large pieces: no allocation for each, no copy of all when it grows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace updagent::release {

class TextArena {
 public:
  // Returns where both stand, one after the other. There they stay as long as the arena, however
  // long they are.
  std::uint32_t add(std::string_view first, std::string_view second = {});
  std::string_view at(std::uint32_t place, std::size_t length) const {
    return std::string_view(pieces_[place / kPieceBytes].text).substr(place % kPieceBytes, length);
  }
  std::string_view keep(std::string_view text) { return at(add(text), text.size()); }
  // One more who drops it: two entries may show the same text.
  void hold(std::uint32_t place) { ++pieces_[place / kPieceBytes].in_use; }
  // Nobody asks for what stands there any more; a piece without any text left is given back.
  void drop(std::uint32_t place);
  std::size_t memory_bytes() const;

 private:
  static constexpr std::size_t kPieceBytes = 64 * 1024;  // 65,536 of them are 32 bits of places
  struct Piece {
    std::string text;
    std::uint32_t in_use = 0;
  };
  std::vector<Piece> pieces_;
};

}  // namespace updagent::release
