#include "agent/launch/fd_store.hpp"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <array>
#include <fstream>

#include "agent/launch/notify_message.hpp"
#include "tests/unit/base/test_directory.hpp"
#include "tests/unit/launch/talk_support.hpp"

namespace {

using namespace updagent::launch;
using namespace updagent::test;
using updagent::base::UniqueFd;

UniqueFd memory_with(const std::string& text) {
  UniqueFd memory(::memfd_create("state", MFD_CLOEXEC));
  EXPECT_EQ(::write(memory.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  return memory;
}

std::string text_in(int fd) {
  std::array<char, 64> bytes{};
  const ssize_t length = ::pread(fd, bytes.data(), bytes.size(), 0);
  return length < 0 ? "unreadable" : std::string(bytes.data(), static_cast<std::size_t>(length));
}

UniqueFd another(const UniqueFd& fd) {
  return UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
}

struct Pair {
  Pair() {
    int ends[2] = {-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0) {
      one.reset(ends[0]);
      other.reset(ends[1]);
    }
  }
  UniqueFd one;
  UniqueFd other;
};

std::unique_ptr<FdStore> make_store(std::vector<std::string> listeners = {}) {
  auto store = FdStore::create(std::move(listeners));
  EXPECT_TRUE(store.has_value());
  return std::move(*store);
}

Stored put(FdStore& store, const std::string& name, UniqueFd fd, bool watched = true) {
  return store.add(name, fd, watched);
}

std::string names(const FdStore& store) {
  std::string out;
  for (const auto& entry : store.entries()) out += entry.name + ":";
  return out;
}

bool becomes_idle(FdStore& store) {
  return turn_until(store.event_fd(), [&] { store.on_event(); }, [&] { return store.idle(); });
}

TEST(FdStore, Keeps_what_it_is_given_in_order_with_its_name) {
  auto store = make_store();
  EXPECT_EQ(put(*store, "state", memory_with("one")), Stored::stored);
  EXPECT_EQ(put(*store, "", memory_with("two")), Stored::stored);
  EXPECT_EQ(put(*store, "state", memory_with("three")), Stored::stored);
  EXPECT_EQ(names(*store), "state:stored:state:");
  EXPECT_EQ(text_in(store->entries()[2].descriptor.get()), "three");
}

TEST(FdStore, The_same_open_file_is_stored_once_and_two_opens_of_one_file_are_two) {
  const TestDirectory directory;
  const std::string path = directory.write("file", "x");
  auto store = make_store();
  const UniqueFd memory = memory_with("one");
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(put(*store, "a", another(memory)), Stored::stored);
  EXPECT_EQ(put(*store, "b", another(memory)), Stored::already);
  EXPECT_EQ(put(*store, "c", another(file)), Stored::stored);
  EXPECT_EQ(put(*store, "d", UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC))), Stored::stored);
  EXPECT_EQ(names(*store), "a:c:d:");
}

TEST(FdStore, Names_of_listeners_and_invalid_names_are_refused) {
  auto store = make_store({"http", "https"});
  EXPECT_EQ(put(*store, "http", memory_with("")), Stored::refused_name);
  EXPECT_EQ(put(*store, "a:b", memory_with("")), Stored::refused_name);
  EXPECT_EQ(put(*store, std::string(kMaxStoreNameBytes + 1, 'n'), memory_with("")),
            Stored::refused_name);
  EXPECT_EQ(put(*store, "httpd", memory_with("")), Stored::stored);
}

TEST(FdStore, What_is_refused_stays_with_the_caller) {
  auto store = make_store({"http"});
  UniqueFd memory = memory_with("mine");
  EXPECT_EQ(store->add("http", memory, true), Stored::refused_name);
  EXPECT_EQ(text_in(memory.get()), "mine");
  EXPECT_EQ(store->add("state", memory, true), Stored::stored);
  EXPECT_FALSE(memory);
}

TEST(FdStore, It_holds_a_bounded_number) {
  auto store = make_store();
  for (std::size_t i = 0; i < kMaxStored; ++i)
    EXPECT_EQ(put(*store, "c", UniqueFd(::eventfd(0, EFD_CLOEXEC))), Stored::stored);
  EXPECT_EQ(put(*store, "c", UniqueFd(::eventfd(0, EFD_CLOEXEC))), Stored::refused_full);
  EXPECT_EQ(store->remove("c"), kMaxStored);
  EXPECT_TRUE(becomes_idle(*store));
  EXPECT_EQ(put(*store, "c", UniqueFd(::eventfd(0, EFD_CLOEXEC))), Stored::stored);
}

TEST(FdStore, Removing_by_name_closes_all_of_that_name_and_no_other) {
  auto store = make_store();
  Pair a;
  Pair b;
  EXPECT_EQ(put(*store, "conn", std::move(a.one)), Stored::stored);
  EXPECT_EQ(put(*store, "state", memory_with("s")), Stored::stored);
  EXPECT_EQ(put(*store, "conn", std::move(b.one)), Stored::stored);
  EXPECT_EQ(store->remove("conn"), 2U);
  EXPECT_EQ(store->remove("conn"), 0U);
  EXPECT_EQ(names(*store), "state:");
  EXPECT_TRUE(becomes_idle(*store));
  EXPECT_TRUE(becomes_readable(a.other.get())) << "its peer sees the end";
  EXPECT_TRUE(becomes_readable(b.other.get()));
}

TEST(FdStore, A_connection_that_is_hung_up_is_dropped_unless_FDPOLL_is_0) {
  auto store = make_store();
  Pair watched;
  Pair kept;
  EXPECT_EQ(put(*store, "watched", std::move(watched.one)), Stored::stored);
  EXPECT_EQ(put(*store, "kept", std::move(kept.one), false), Stored::stored);
  kept.other.reset();
  EXPECT_FALSE(becomes_readable(store->event_fd(), 0));
  watched.other.reset();
  ASSERT_TRUE(becomes_readable(store->event_fd()));
  EXPECT_EQ(store->on_event(), std::vector<std::string>{"watched"});
  EXPECT_EQ(names(*store), "kept:");
}

TEST(FdStore, Data_that_waits_in_a_connection_is_neither_an_event_nor_read) {
  auto store = make_store();
  Pair pair;
  const UniqueFd service = another(pair.one);
  EXPECT_EQ(put(*store, "conn", std::move(pair.one)), Stored::stored);
  ASSERT_EQ(::write(pair.other.get(), "request", 7), 7);
  EXPECT_FALSE(becomes_readable(store->event_fd(), 0));
  EXPECT_TRUE(store->on_event().empty());
  std::array<char, 16> bytes{};
  EXPECT_EQ(::read(service.get(), bytes.data(), bytes.size()), 7);
}

TEST(FdStore, A_dropped_entry_that_the_service_still_holds_wakes_nobody_again) {
  auto store = make_store();
  Pair pair;
  const UniqueFd service = another(pair.one);
  EXPECT_EQ(put(*store, "conn", std::move(pair.one)), Stored::stored);
  EXPECT_EQ(store->remove("conn"), 1U);
  EXPECT_TRUE(becomes_idle(*store));
  pair.other.reset();  // the registration would fire now, for ever
  EXPECT_FALSE(becomes_readable(store->event_fd(), 0));
}

TEST(FdStore, Files_are_kept_whatever_their_kind) {
  const TestDirectory directory;
  auto store = make_store();
  EXPECT_EQ(put(*store, "file", UniqueFd(::open(directory.write("f", "text").c_str(), O_RDONLY))),
            Stored::stored);
  EXPECT_EQ(put(*store, "null", UniqueFd(::open("/dev/null", O_RDWR))), Stored::stored);
  Pipe pipe;
  EXPECT_EQ(put(*store, "pipe", std::move(pipe.reader)), Stored::stored);
  EXPECT_FALSE(becomes_readable(store->event_fd(), 0));
  pipe.writer.reset();
  ASSERT_TRUE(becomes_readable(store->event_fd()));
  EXPECT_EQ(store->on_event(), std::vector<std::string>{"pipe"});
  EXPECT_EQ(names(*store), "file:null:");
}

TEST(FdStore, The_next_generation_gets_copies_and_each_goes_its_own_way) {
  auto first = make_store({"http"});
  EXPECT_EQ(put(*first, "state", memory_with("shared")), Stored::stored);
  EXPECT_EQ(put(*first, "admin", memory_with("old")), Stored::stored);
  auto copied = first->copy_for({"http", "admin"});
  ASSERT_TRUE(copied.has_value());
  FdStore& second = **copied;
  EXPECT_EQ(names(second), "state:") << "the new release has a listener of the other name";
  EXPECT_EQ(put(second, "new", memory_with("n")), Stored::stored);
  EXPECT_EQ(first->remove("state"), 1U);
  EXPECT_EQ(text_in(second.entries()[0].descriptor.get()), "shared");
  EXPECT_EQ(names(*first), "admin:");
  EXPECT_EQ(names(second), "state:new:");
}

TEST(FdStore, A_successor_is_given_everything_as_it_was) {
  Pair pair;
  auto store = make_store();
  EXPECT_EQ(put(*store, "state", memory_with("kept")), Stored::stored);
  EXPECT_EQ(put(*store, "conn", std::move(pair.one)), Stored::stored);
  auto all = store->release_all();
  EXPECT_TRUE(store->entries().empty());
  store.reset();
  auto successor = make_store();
  for (auto& entry : all)
    EXPECT_EQ(successor->add(entry.name, entry.descriptor, entry.watched), Stored::stored);
  EXPECT_EQ(names(*successor), "state:conn:");
  EXPECT_EQ(text_in(successor->entries()[0].descriptor.get()), "kept");
  pair.other.reset();
  ASSERT_TRUE(becomes_readable(successor->event_fd()));
  EXPECT_EQ(successor->on_event(), std::vector<std::string>{"conn"});
}

TEST(FdStore, Many_stores_leave_nothing_open) {
  const std::size_t before = open_descriptors();
  for (int i = 0; i < 100; ++i) {
    auto store = make_store();
    Pair pair;
    EXPECT_EQ(put(*store, "conn", std::move(pair.one)), Stored::stored);
    EXPECT_EQ(put(*store, "state", memory_with("x")), Stored::stored);
    if (i % 2 == 0) store->remove("state");
  }
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG | __WALL), -1) << "and no process behind";
}

}  // namespace
