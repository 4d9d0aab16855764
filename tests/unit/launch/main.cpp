// Some tests start this binary as a service: "--role NAME".
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace {

// Exit status 0 when bind(2) answered 0, else its errno.
int bind_once() {
  const int socket_fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return ::bind(socket_fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0
             ? 0
             : errno;
}

// Exit status: the errno of taking the program of a reuseport group away, 0 when it worked.
int detach_program() {
  const int socket_fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(socket_fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  const int answer = ::setsockopt(socket_fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &on, sizeof on);
  return answer == 0 ? 0 : errno;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--role") {
    if (std::string(argv[2]) == "bind") return bind_once();
    if (std::string(argv[2]) == "detach") return detach_program();
    return 255;
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
