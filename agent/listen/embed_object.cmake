# Writes OUTPUT: the bytes of INPUT as a C++ array.
file(READ ${INPUT} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" bytes "${bytes}")
file(WRITE ${OUTPUT} "#include \"agent/listen/steer_program.hpp\"

namespace updagent::listen {
namespace {
// libelf reads whole words
alignas(8) constexpr unsigned char kBytes[] = {
${bytes}};
}  // namespace

std::span<const unsigned char> steer_object() {
  return kBytes;
}

}  // namespace updagent::listen
")
