// FICLONE on file systems that don't have it: the bytes are copied. For the way of the code; that
// blocks are shared is for file_system_test.cpp on a real btrfs or xfs.
#pragma once

namespace updagent::store::testing {

class FakeClone {
 public:
  FakeClone();
  ~FakeClone();
  FakeClone(const FakeClone&) = delete;
  FakeClone& operator=(const FakeClone&) = delete;
  int clones() const;          // that were made by this object
  void fail_from(int number);  // counted from now, and all later ones: EOPNOTSUPP
};

}  // namespace updagent::store::testing
