// A control server and its clients in one process: the server in a loop, a client in a thread.
#include "agent/service/control.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <thread>

#include "agent/service/client.hpp"
#include "tests/unit/base/test_directory.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Milliseconds;
using base::Result;

constexpr Milliseconds kLong{20'000};  // far above what any of it needs

class Control : public testing::Test {
 protected:
  void SetUp() override {
    auto loop = Loop::create();
    ASSERT_TRUE(loop);
    loop_ = std::move(*loop);
    auto server = ControlServer::listen(
        *loop_, path(), [this](const Request& request) { return answer_(request); },
        [this](ConnectionId id) { closed_.push_back(id); });
    ASSERT_TRUE(server);
    server_ = std::move(*server);
  }

  std::string path() const { return folder_.path() + "/control"; }

  // Runs the loop until what the client does is done.
  void with_client(const std::function<void(Client&)>& act) {
    auto client = Client::connect(path());
    ASSERT_TRUE(client);
    std::optional<Client> last;  // ends when the loop has: its own end is nobody's news
    std::thread other([&] {
      act(*client);
      if (auto connected = Client::connect(path())) last = std::move(*connected);
      if (last) static_cast<void>(last->ask("stop the loop"));
    });
    EXPECT_TRUE(loop_->run());
    other.join();
  }

  Result<Answer> echo(const Request& request) {
    if (request.op == "stop the loop") loop_->stop();
    last_ = request.connection;
    return Answer{{"op", request.op}, {"n", request.number("n")}};
  }

  test::TestDirectory folder_;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<ControlServer> server_;
  std::function<Result<Answer>(const Request&)> answer_ = [this](const Request& request) {
    return echo(request);
  };
  std::vector<ConnectionId> closed_;
  ConnectionId last_ = 0;
};

TEST_F(Control, A_question_gets_its_answer_and_an_error_its_words) {
  answer_ = [this](const Request& request) -> Result<Answer> {
    if (request.op == "bad") return Error(Code::busy, "not now").hint("later");
    return echo(request);
  };
  with_client([](Client& client) {
    const auto good = client.ask("good", {{"n", 7}});
    ASSERT_TRUE(good);
    EXPECT_EQ((*good)["n"], 7);
    const auto bad = client.ask("bad");
    ASSERT_FALSE(bad);
    EXPECT_EQ(bad.error().code(), Code::busy);
    EXPECT_EQ(bad.error().hint(), "later");
    EXPECT_FALSE(client.broken());  // the supervisor's own error is no lost connection
  });
}

TEST_F(Control, News_that_come_before_the_answer_are_kept) {
  answer_ = [this](const Request& request) -> Result<Answer> {
    if (request.op == "tell")
      for (int n = 1; n <= 3; ++n)
        server_->tell(request.connection, {{"news", "n"}, {"number", n}});
    return echo(request);
  };
  with_client([](Client& client) {
    ASSERT_TRUE(client.ask("tell"));
    for (int n = 1; n <= 3; ++n) {
      const auto news = client.next_news(kLong, nullptr);
      ASSERT_TRUE(news && *news);
      EXPECT_EQ((**news)["number"], n);
    }
  });
}

TEST_F(Control, What_is_no_question_is_refused_and_what_is_no_message_ends_the_connection) {
  with_client([this](Client&) {
    for (const char* text :
         {"[]", "{", "{\"v\":99,\"id\":1,\"op\":\"x\"}", "{\"v\":1,\"id\":-5}"}) {
      auto raw = connect_to(path());
      ASSERT_TRUE(raw);
      ASSERT_TRUE(send_message(raw->get(), text));
    }
    auto raw = connect_to(path());
    ASSERT_TRUE(raw);
  });
  EXPECT_GE(closed_.size(), 4U);
}

// A float is not in the language of this socket: the server can't tell whose question it was.
TEST_F(Control, A_question_that_was_not_understood_is_an_error_at_once_and_the_next_one_is_heard) {
  with_client([](Client& client) {
    const auto answer = client.ask("weight", {{"share", 0.5}});
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code(), Code::usage);  // the server's word, not timed_out
    EXPECT_FALSE(client.broken());
    EXPECT_TRUE(client.ask("good"));
  });
}

TEST_F(Control, A_connection_that_ends_is_told_once) {
  with_client([this](Client& client) {
    ASSERT_TRUE(client.ask("first"));
    const ConnectionId own = last_;
    {
      const Client gone = std::move(client);
    }
    auto next = Client::connect(path());
    ASSERT_TRUE(next);
    ASSERT_TRUE(next->ask("second"));
    EXPECT_NE(last_, own);
  });
  EXPECT_EQ(closed_.size(), 2U);  // of the client and of `next`
}

TEST_F(Control, A_server_that_is_gone_breaks_the_connection) {
  auto client = Client::connect(path());
  ASSERT_TRUE(client);
  server_.reset();
  const auto answer = client->ask("anybody?");
  ASSERT_FALSE(answer);
  EXPECT_TRUE(client->broken());
  EXPECT_EQ(Client::connect(path()).error().code(), Code::not_found);
}

TEST_F(Control, Numbers_of_a_request_are_never_negative_and_never_text) {
  Request request;
  request.fields = {{"a", -1}, {"b", "7"}, {"c", 7}};
  EXPECT_EQ(request.number("a"), 0U);
  EXPECT_EQ(request.number("b"), 0U);
  EXPECT_EQ(request.number("c"), 7U);
  EXPECT_EQ(request.number("d"), 0U);
  EXPECT_EQ(request.text("c"), "");
  EXPECT_EQ(request.text("b"), "7");
}

}  // namespace
}  // namespace updagent::service
