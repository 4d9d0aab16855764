#include "agent/launch/inject_journal.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace updagent::launch {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::UniqueFd;

// Changes with every change of the layout, which a running supervisor hands to a newer one.
constexpr std::uint64_t kJournalMagic = 0x7570'6169'6E6A'0001;

Error cannot_map(int errno_value) {
  return base::system_error(errno_value, "cannot use the record of binds in flight");
}

}  // namespace

void InjectJournal::Unmap::operator()(Data* data) const {
  ::munmap(data, sizeof(Data));
}

Result<UniqueFd> InjectJournal::make() {
  UniqueFd memory(::memfd_create("updagent-inject", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory) return cannot_map(errno);
  if (::ftruncate(memory.get(), sizeof(Data)) != 0 ||
      ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return cannot_map(errno);
  return memory;
}

Result<InjectJournal> InjectJournal::open(int journal_fd) {
  struct stat status{};
  if (::fstat(journal_fd, &status) != 0) return cannot_map(errno);
  if (status.st_size != static_cast<off_t>(sizeof(Data)))
    return Error(Code::damaged, "the record of binds in flight has another size")
        .expected(std::to_string(sizeof(Data)) + " bytes")
        .got(std::to_string(status.st_size));
  void* address = ::mmap(nullptr, sizeof(Data), PROT_READ | PROT_WRITE, MAP_SHARED, journal_fd, 0);
  if (address == MAP_FAILED) return cannot_map(errno);
  auto* data = static_cast<Data*>(address);
  InjectJournal journal(data);
  if (data->magic == 0) data->magic = kJournalMagic;
  if (data->magic != kJournalMagic)
    return Error(Code::damaged, "the record of binds in flight is not one that we know");
  return journal;
}

}  // namespace updagent::launch
