#include "agent/release/block_stream.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "agent/release/artifact_reader.hpp"
#include "tests/unit/release_reader/sample.hpp"

namespace updagent::testing {
namespace {

using base::Code;
using release::ArtifactReader;
using release::BlockStream;
using release::FdSource;
using release::MemorySource;

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    out.reset(ends[0]);
    in.reset(ends[1]);
  }
  base::UniqueFd out;
  base::UniqueFd in;
};

void write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd, bytes.data(), bytes.size());
    ASSERT_GT(count, 0);
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
}

std::string drain(BlockStream& stream) {
  std::string out;
  while (true) {
    const auto block = stream.next();
    if (!block) ADD_FAILURE() << block.error().line();
    if (!block || *block == nullptr) return out;
    const auto bytes = (*block)->bytes();
    out.append(bytes.begin(), bytes.end());
  }
}

TEST(Block_stream, gives_all_bytes_and_marks_the_end_of_the_first_part) {
  const std::string first = noise(1000);
  const std::string rest = noise(3'000'000);
  const std::string file = gzip_member(first) + gzip_member(rest);
  MemorySource source(file);
  BlockStream stream(source, nullptr);
  ASSERT_TRUE(stream.start());
  const auto block = stream.next();
  ASSERT_TRUE(block);
  EXPECT_TRUE((*block)->first_part_ends);
  EXPECT_EQ((*block)->filled, first.size());
  EXPECT_EQ(drain(stream), rest);
  EXPECT_EQ(stream.file_digest(), base::sha256(file));
  EXPECT_EQ(stream.compressed_bytes(), file.size());
}

TEST(Block_stream, takes_a_source_that_gives_one_byte_at_a_time) {
  class Dripping : public MemorySource {
   public:
    using MemorySource::MemorySource;
    base::Result<std::size_t> read(std::span<std::uint8_t> into) override {
      return MemorySource::read(into.first(1));
    }
  };
  for (const Packing packing : {Packing::gzip, Packing::zstd}) {
    const std::string content = noise(5000);
    const std::string file = compressed_part(content, packing) + compressed_part("second", packing);
    Dripping source(file);
    BlockStream stream(source, nullptr);
    ASSERT_TRUE(stream.start());
    EXPECT_EQ(drain(stream), content + "second");
  }
}

TEST(Block_stream, hands_over_what_came_before_the_damage_and_then_the_error) {
  const std::string content = noise(10'000);
  const std::string file = gzip_member(content) + "tail";
  MemorySource source(file);
  BlockStream stream(source, nullptr);
  ASSERT_TRUE(stream.start());
  const auto block = stream.next();
  ASSERT_TRUE(block);
  EXPECT_EQ((*block)->filled, content.size());
  const auto damage = stream.next();
  ASSERT_FALSE(damage);
  EXPECT_EQ(damage.error().code(), Code::artifact_damaged);
}

TEST(Block_stream, passes_on_the_error_of_the_source) {
  class Broken : public base::ByteSource {
    base::Result<std::size_t> read(std::span<std::uint8_t>) override {
      return base::Error(Code::io_error, "the disk is gone");
    }
  };
  Broken source;
  BlockStream stream(source, nullptr);
  ASSERT_TRUE(stream.start());
  const auto block = stream.next();
  ASSERT_FALSE(block);
  EXPECT_EQ(block.error().message(), "the disk is gone");
}

TEST(Block_stream, ends_when_nobody_takes_its_blocks) {
  const std::string file = gzip_member(std::string(10'000'000, 'x'));
  MemorySource source(file);
  BlockStream stream(source, nullptr);
  ASSERT_TRUE(stream.start());
  ASSERT_TRUE(stream.next());
}

TEST(Artifact_reader, ends_on_a_pipe_that_stays_silent) {
  const Pipe pipe;
  const Sample good = small_sample();
  write_all(pipe.in.get(), gzip_member(good.pieces().envelope));
  FdSource source(pipe.out.get(), "pipe");
  ArtifactReader reader(source, nullptr);
  const auto envelope = reader.read_envelope();
  ASSERT_TRUE(envelope);
  EXPECT_EQ(*envelope, good.envelope);
  // the destructor returns although the writing end stays open
}

TEST(Artifact_reader, reads_a_pipe_as_it_is_written) {
  const Pipe pipe;
  const Sample good = sample();
  const std::string bytes = good.pieces().build(Packing::zstd);
  std::thread writer([&] {
    write_all(pipe.in.get(), bytes);
    const_cast<Pipe&>(pipe).in.reset();
  });
  FdSource source(pipe.out.get(), "pipe");
  ArtifactReader reader(source, nullptr);
  RecordingSink sink;
  EXPECT_TRUE(reader.read_envelope());
  EXPECT_TRUE(reader.read_manifest(good.manifest_digest(), [](auto) { return base::ok(); }));
  const auto status = reader.read_entries(good.table(), sink, nullptr);
  writer.join();
  ASSERT_TRUE(status) << status.error().line();
  EXPECT_EQ(reader.file_digest(), base::sha256(bytes));
}

// The signal mask and the pending signal are the process's: a child keeps them from other tests.
TEST(Artifact_reader, is_interrupted_while_it_waits_for_a_silent_pipe) {
  const auto is_interrupted = [] {
    auto interrupt = base::Interrupt::install();
    const Pipe pipe;
    FdSource source(pipe.out.get(), "pipe");
    ArtifactReader reader(source, &*interrupt);
    std::thread([] { ::kill(::getpid(), SIGTERM); }).join();
    const auto envelope = reader.read_envelope();
    return !envelope && envelope.error().code() == Code::interrupted;
  };
  EXPECT_EXIT(::_exit(is_interrupted() ? 0 : 1), ::testing::ExitedWithCode(0), "");
}

TEST(Fd_source, waits_for_a_descriptor_that_does_not_block) {
  const Pipe pipe;
  ASSERT_EQ(::fcntl(pipe.out.get(), F_SETFL, O_NONBLOCK), 0);
  std::thread writer([&] { write_all(pipe.in.get(), "x"); });
  FdSource source(pipe.out.get(), "pipe");
  std::array<std::uint8_t, 4> into{};
  const auto count = source.read(into);
  writer.join();
  ASSERT_TRUE(count);
  EXPECT_EQ(*count, 1U);
}

TEST(Fd_source, names_what_it_could_not_read) {
  FdSource source(-1, "release.tar.gz");
  std::array<std::uint8_t, 4> into{};
  const auto count = source.read(into);
  ASSERT_FALSE(count);
  EXPECT_EQ(count.error().line(), "cannot read 'release.tar.gz': Bad file descriptor");
}

}  // namespace
}  // namespace updagent::testing
