// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Small words that every header here uses, and the standard headers that programs get with them.

#include <dmlc/logging.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <chrono>
#include <cinttypes>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <functional>
#include <iostream>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <queue>
#include <random>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "ps/internal/env.h"
#include "ps/internal/error.h"

namespace ps {

#if defined(USE_KEY32) && USE_KEY32
using Key = std::uint32_t;
#else
using Key = std::uint64_t;
#endif
static const Key kMaxKey = std::numeric_limits<Key>::max();

static const int kScheduler = 1;  // the node, and the group of it alone
static const int kServerGroup = 2;
static const int kWorkerGroup = 4;

enum DeviceType { UNK, CPU, GPU };
static const char* const DeviceTypeName[] = {"UNK", "CPU", "GPU"};

struct Node {
  enum Role { SERVER, WORKER, SCHEDULER, JOINT };
  static const int kEmpty = std::numeric_limits<int>::max();
};

}  // namespace ps

#ifndef LL
#define LL LOG(ERROR)
#endif

#ifndef DISALLOW_COPY_AND_ASSIGN
#define DISALLOW_COPY_AND_ASSIGN(TypeName) \
  TypeName(const TypeName&) = delete;      \
  void operator=(const TypeName&) = delete
#endif
