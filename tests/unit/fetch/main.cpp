// The tests, and the process that they kill: `fetch_test fetch-child URL DOWNLOADS OPTIONS` fetches
// and prints "CODE BYTES DOWNLOADED RESUMED_FROM". OPTIONS: "rate=N,report_at=N"; with report_at it
// prints "at N" once so many bytes are there, and goes on.
#include <gtest/gtest.h>

#include <iostream>
#include <string>

#include "tests/unit/fetch/fetch_fixture.hpp"

namespace {

using updagent::fetch::Progress;

std::uint64_t option(const std::string& options, const std::string& name) {
  const std::size_t at = options.find(name + "=");
  return at == std::string::npos ? 0 : std::stoull(options.substr(at + name.size() + 1));
}

int fetch_child(const std::string& url, const std::string& downloads, const std::string& options) {
  updagent::fetch::Request request;
  request.url = url;
  request.download_directory = downloads;
  request.limits = updagent::fetch::test::quick_limits();
  request.limits.bytes_per_second = option(options, "rate");
  const std::uint64_t report_at = option(options, "report_at");
  bool reported = report_at == 0;
  request.on_progress = [&](const Progress& progress) {
    if (reported || progress.bytes < report_at) return;
    reported = true;
    std::cout << "at " << progress.bytes << std::endl;
  };
  const auto fetched = updagent::fetch::fetch(request);
  if (!fetched) {
    std::cout << fetched.error().code_name() << ' ' << fetched.error().line() << " / "
              << fetched.error().hint() << std::endl;
    return 1;
  }
  std::cout << "ok " << fetched->bytes << ' ' << fetched->downloaded << ' ' << fetched->resumed_from
            << std::endl;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 5 && std::string(argv[1]) == "fetch-child")
    return fetch_child(argv[2], argv[3], argv[4]);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
