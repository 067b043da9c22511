// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Memory for values that servers hand out and go on using: an answer under way keeps its own, and
// the next update writes into another.

#include <cstddef>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "ps/ps.h"

namespace penstock::kvserver {

// Arrays of one size, aligned for the kernels. Threads: any; the arrays may outlive the pool.
class ValuePool {
 public:
  explicit ValuePool(std::size_t bytes) : shelf_(std::make_shared<Shelf>()), bytes_(bytes) {}

  // Not initialised. Comes back to the pool when its last copy goes.
  ps::SArray<char> take() {
    std::unique_ptr<char[], Free> memory;
    {
      const std::lock_guard lock(shelf_->mutex);
      if (!shelf_->free.empty()) {
        memory = std::move(shelf_->free.back());
        shelf_->free.pop_back();
      }
    }
    if (memory == nullptr)
      memory.reset(static_cast<char*>(::operator new (bytes_ + 1, std::align_val_t{kAlignment})));
    ps::SArray<char> array;
    array.share(std::shared_ptr<char>(memory.release(),
                                      [shelf = shelf_](char* mine) {
                                        std::unique_ptr<char[], Free> back(mine);
                                        const std::lock_guard lock(shelf->mutex);
                                        if (shelf->free.size() < kKept)
                                          shelf->free.push_back(std::move(back));
                                      }),
                bytes_);
    return array;
  }

 private:
  static constexpr std::size_t kAlignment = 64;
  static constexpr std::size_t kKept = 2;  // one being read, one being written
  struct Free {
    void operator()(char* memory) const {
      ::operator delete (memory, std::align_val_t{kAlignment});
    }
  };
  struct Shelf {
    std::mutex mutex;
    std::vector<std::unique_ptr<char[], Free>> free;
  };

  std::shared_ptr<Shelf> shelf_;
  std::size_t bytes_;
};

// The bytes at an address that elements of that size may have; copied only if they lie elsewhere.
inline ps::SArray<char> aligned(const ps::SArray<char>& bytes, std::size_t element) {
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % element == 0) return bytes;
  ps::SArray<char> copy;
  copy.CopyFrom(bytes);
  return copy;
}

}  // namespace penstock::kvserver
