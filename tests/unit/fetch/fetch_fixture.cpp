#include "tests/unit/fetch/fetch_fixture.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "agent/base/digest.hpp"
#include "agent/base/files.hpp"

extern char** environ;

namespace updagent::fetch::test {
namespace {

namespace fs = std::filesystem;

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  for (std::size_t at = text.find(what); at != std::string::npos;
       at = text.find(what, at + by.size()))
    text.replace(at, what.size(), by);
  return text;
}

// NAME= of each item wins over what the process has.
std::vector<std::string> environment_with(const std::vector<std::string>& extra) {
  std::vector<std::string> out = extra;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string item = *entry;
    const std::string name = item.substr(0, item.find('=') + 1);
    bool overridden = false;
    for (const std::string& own : extra) overridden = overridden || own.starts_with(name);
    if (!overridden) out.push_back(item);
  }
  return out;
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (const std::string& text : texts) out.push_back(const_cast<char*>(text.c_str()));
  out.push_back(nullptr);
  return out;
}

std::string first_line(int fd) {
  std::string line;
  char c = 0;
  while (::read(fd, &c, 1) == 1 && c != '\n') line += c;
  return line;
}

// Without it the workers of a root's nginx become `nobody`, who can't enter the directory.
std::string as_current_user() {
  return ::geteuid() == 0 ? "user root;" : "";
}

std::string nginx_configuration(const std::string& prefix, const std::string& listen,
                                const std::string& server) {
  return "daemon off; worker_processes 1; " + as_current_user() +
         "\n"
         "pid " +
         prefix + "/nginx.pid; error_log " + prefix +
         "/error.log;\n"
         "events { worker_connections 64; }\n"
         "http {\n"
         "  log_format seen '$status|$http_range|$http_if_range|$http_authorization|'\n"
         "                  '$server_protocol|$http_user_agent|$http_accept_encoding';\n"
         "  access_log " +
         prefix +
         "/access.log seen;\n"
         "  client_body_temp_path " +
         prefix + "/t1; proxy_temp_path " + prefix +
         "/t2;\n"
         "  fastcgi_temp_path " +
         prefix + "/t3; uwsgi_temp_path " + prefix +
         "/t4;\n"
         "  scgi_temp_path " +
         prefix +
         "/t5;\n"
         "  server { listen " +
         listen + "; root " + prefix + "/www;\n" + server +
         "\n  }\n"
         "}\n";
}

}  // namespace

std::string content(const std::string& seed, std::size_t size) {
  std::string out;
  for (std::size_t block = 0; out.size() < size; ++block) {
    const auto digest = base::sha256(seed + ":" + std::to_string(block));
    out.append(reinterpret_cast<const char*>(digest.bytes.data()), digest.bytes.size());
  }
  out.resize(size);
  return out;
}

std::string read_all(int fd) {
  std::string out;
  std::array<char, 65536> buffer{};
  for (ssize_t count = 0; (count = ::read(fd, buffer.data(), buffer.size())) > 0;)
    out.append(buffer.data(), static_cast<std::size_t>(count));
  return out;
}

// --- TemporaryDirectory
// ---------------------------------------------------------------------------

TemporaryDirectory::TemporaryDirectory() {
  std::string pattern = (fs::temp_directory_path() / "fetch_test.XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) std::abort();
  path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string TemporaryDirectory::write(const std::string& name, const std::string& content) const {
  const std::string path = path_ + "/" + name;
  fs::create_directories(fs::path(path).parent_path());
  const std::string temporary = path + ".new";
  std::ofstream(temporary, std::ios::binary) << content;
  fs::rename(temporary, path);  // a server must never see half of it
  return path;
}

std::string TemporaryDirectory::read(const std::string& name) const {
  std::ifstream file(path_ + "/" + name, std::ios::binary);
  std::stringstream out;
  out << file.rdbuf();
  return out.str();
}

std::vector<std::string> TemporaryDirectory::names(const std::string& sub) const {
  const auto names = base::list_directory(path_ + "/" + sub, 1000);
  return names ? *names : std::vector<std::string>();
}

// --- Process
// --------------------------------------------------------------------------------------

Process::Process(const std::vector<std::string>& argv,
                 const std::vector<std::string>& extra_environment, int kept_fd, int output_fd) {
  const std::vector<std::string> environment = environment_with(extra_environment);
  const std::vector<char*> arguments = pointers(argv);
  const std::vector<char*> variables = pointers(environment);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ != 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(127);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (kept_fd >= 0) ::fcntl(kept_fd, F_SETFD, 0);
  if (output_fd >= 0) ::dup2(output_fd, STDOUT_FILENO);
  ::execvpe(arguments[0], arguments.data(), variables.data());
  ::_exit(127);
}

Process::Process(Process&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}

Process& Process::operator=(Process&& other) noexcept {
  std::swap(pid_, other.pid_);
  return *this;
}

Process::~Process() {
  signal(SIGTERM);  // not SIGKILL: nginx's workers would outlive it
  wait();
}

void Process::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

int Process::wait() {
  int status = -1;
  if (pid_ > 0) ::waitpid(pid_, &status, 0);
  pid_ = -1;
  return status;
}

// --- FaultyServer
// ---------------------------------------------------------------------------------

namespace {

struct Pipe {
  base::UniqueFd read_end;
  base::UniqueFd write_end;
  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) std::abort();
    read_end.reset(ends[0]);
    write_end.reset(ends[1]);
  }
};

}  // namespace

FaultyServer::FaultyServer() {
  Pipe output;
  process_ =
      Process({"python3", std::string(UPDAGENT_SOURCE_DIR) + "/tests/support/faulty_server.py",
               directory_.path()},
              {}, -1, output.write_end.get());
  output.write_end.reset();
  port_ = first_line(output.read_end.get());
}

void FaultyServer::script(const std::string& name, const Json& steps) const {
  directory_.write(name + ".json", steps.dump());
}

std::string FaultyServer::url(const std::string& name) const {
  return "http://127.0.0.1:" + port_ + "/" + name;
}

std::vector<Json> FaultyServer::requests(const std::string& name) const {
  std::vector<Json> out;
  std::istringstream lines(directory_.read(name + ".log"));
  for (std::string line; std::getline(lines, line);) out.push_back(Json::parse(line));
  return out;
}

// --- nginx
// ----------------------------------------------------------------------------------------

ReservedPort::ReservedPort(const char* address)
    : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in where{};
  where.sin_family = AF_INET;
  ::inet_pton(AF_INET, address, &where.sin_addr);
  if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) != 0)
    std::abort();
}

std::string ReservedPort::port() const {
  sockaddr_in where{};
  socklen_t length = sizeof where;
  ::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&where), &length);
  return std::to_string(ntohs(where.sin_port));
}

void ReservedPort::listen() const {
  if (::listen(socket_.get(), 64) != 0) std::abort();
}

Nginx::Nginx(const std::string& server, const std::string& listen_options, const char* address)
    : Nginx(ReservedPort(address), server, listen_options, address, true) {}

Nginx::Nginx(ReservedPort port, const std::string& server, const std::string& listen_options,
             const char* address, bool start_now)
    : address_(address), port_(std::move(port)) {
  const std::string listen = address_ + ":" + port_.port() + " " + listen_options;
  const std::string block =
      replaced(replaced(server, "{root}", directory_.path()), "{port}", port_.port());
  directory_.write("nginx.conf", nginx_configuration(directory_.path(), listen, block));
  fs::create_directories(directory_.path() + "/www");
  if (start_now) start();
}

void Nginx::start() {
  port_.listen();
  process_ = Process({"nginx", "-p", directory_.path(), "-c", directory_.path() + "/nginx.conf",
                      "-e", directory_.path() + "/error.log"},
                     {"NGINX=" + std::to_string(port_.fd()) + ";"}, port_.fd(), -1);
}

void Nginx::stop() {
  process_.signal(SIGQUIT);
  process_.wait();
}

std::string Nginx::url(const std::string& path, const std::string& scheme) const {
  return scheme + "://" + address_ + ":" + port_.port() + "/" + path;
}

std::string Nginx::publish(const std::string& name, const std::string& content) const {
  return directory_.write("www/" + name, content);
}

std::vector<std::string> Nginx::log() const {
  std::vector<std::string> out;
  std::istringstream lines(directory_.read("access.log"));
  for (std::string line; std::getline(lines, line);) out.push_back(line);
  return out;
}

// --- FetchTest
// ------------------------------------------------------------------------------------

Limits quick_limits() {
  Limits limits;
  limits.connect_timeout = base::Milliseconds(20'000);
  limits.backoff_first = base::Milliseconds(1);
  limits.backoff_max = base::Milliseconds(8);
  limits.give_up_after = base::Milliseconds(60'000);
  return limits;
}

Request FetchTest::request(const std::string& url) {
  Request out;
  out.url = url;
  out.download_directory = downloads();
  out.limits = quick_limits();
  out.on_progress = [this](const Progress& progress) { progress_.push_back(progress); };
  return out;
}

testing::AssertionResult same_bytes(const std::string& got, const std::string& expected) {
  if (got == expected) return testing::AssertionSuccess();
  const auto differs = std::mismatch(
      got.begin(), got.begin() + static_cast<std::ptrdiff_t>(std::min(got.size(), expected.size())),
      expected.begin());
  return testing::AssertionFailure() << got.size() << " bytes instead of " << expected.size()
                                     << ", first difference at " << differs.first - got.begin();
}

std::string FetchTest::fetched(const Request& request, Fetched* result) {
  auto outcome = fetch(request);
  if (!outcome) {
    ADD_FAILURE() << outcome.error().line();
    return "";
  }
  std::string bytes = read_all(outcome->file.get());
  EXPECT_EQ(bytes.size(), outcome->bytes);
  if (result != nullptr) *result = std::move(*outcome);
  return bytes;
}

std::uint64_t FetchTest::part_size() const {
  for (const std::string& name : directory_.names("downloads"))
    if (name.ends_with(".part")) return fs::file_size(downloads() + "/" + name);
  return 0;
}

std::vector<std::string> child_command(const std::string& url, const std::string& downloads,
                                       const std::string& options) {
  return {"/proc/self/exe", "fetch-child", url, downloads, options};
}

}  // namespace updagent::fetch::test
