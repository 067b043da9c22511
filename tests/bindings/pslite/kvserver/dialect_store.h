// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// MXNet's side of the KVStore dialect, written to ps/ps.h alone: what a distributed store of a
// worker sends, in its order and with its numbers.

#include <cmath>

#include "ps/ps.h"

enum Head { kController, kMultiPrecision, kStop, kSync, kCompression, kProfiler };
enum Request { kDense, kRowSparse, kCompressed };
enum Element { kFloat32 = 0, kFloat16 = 2, kInt32 = 4 };

inline int Command(Request request, Element element) {
  const int sum = request + element;
  return sum * (sum + 1) / 2 + element;
}

template <typename T>
std::vector<char> Bytes(const std::vector<T>& values) {
  const char* const first = reinterpret_cast<const char*>(values.data());
  return std::vector<char>(first, first + values.size() * sizeof(T));
}

template <typename T>
std::vector<T> Values(const std::vector<char>& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  CHECK_EQ(values.size() * sizeof(T), bytes.size());
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

class DialectStore {
 public:
  static const int kBound = 1000;  // elements; a larger key is cut over all servers

  DialectStore() : kv_(0, 0) {
    static_cast<ps::SimpleApp*>(&kv_)->set_response_handle(
        [this](const ps::SimpleData& answer, ps::SimpleApp*) {
          const std::lock_guard<std::mutex> lock(mutex_);
          answers_.push_back(answer.body);
        });
    ps::StartAsync(0, "dialect_store");
    if (!ps::Postoffice::Get()->is_recovery())
      ps::Postoffice::Get()->Barrier(0, ps::kScheduler + ps::kServerGroup + ps::kWorkerGroup);
  }
  // As MXNet leaves: the first worker stops the servers.
  ~DialectStore() {
    Barrier();
    if (ps::MyRank() == 0) Tell(kStop, "");
    ps::Finalize(0, true);
  }

  void Barrier() { ps::Postoffice::Get()->Barrier(0, ps::kWorkerGroup); }

  // To all servers; what they answered.
  std::vector<std::string> Tell(int head, const std::string& body) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      answers_.clear();
    }
    kv_.Wait(kv_.Request(head, body, ps::kServerGroup));
    const std::lock_guard<std::mutex> lock(mutex_);
    CHECK_EQ(static_cast<int>(answers_.size()), ps::NumServers());
    return answers_;
  }
  // By the first worker, before the others go on.
  void TellOnce(int head, const std::string& body) {
    Barrier();
    if (ps::MyRank() == 0)
      for (const std::string& answer : Tell(head, body)) CHECK_EQ(answer, "");
    Barrier();
  }

  struct Parts {
    std::vector<ps::Key> keys;
    std::vector<int> lens;
  };
  // Of a dense key of `count` elements.
  Parts Split(int key, size_t count, size_t element) const {
    const auto& ranges = ps::Postoffice::Get()->GetServerKeyRanges();
    const size_t servers = ranges.size();
    Parts parts;
    if (count < static_cast<size_t>(kBound)) {
      parts.keys.push_back(ranges[static_cast<size_t>(key) * 9973 % servers].begin() + key);
      parts.lens.push_back(static_cast<int>(count * element));
      return parts;
    }
    const double each = static_cast<double>(count) / static_cast<double>(servers);
    size_t begin = 0;
    for (size_t i = 0; i < servers; ++i) {
      const size_t end = static_cast<size_t>(std::llround(each * static_cast<double>(i + 1)));
      parts.keys.push_back(ranges[i].begin() + key);
      parts.lens.push_back(static_cast<int>((end - begin) * element));
      begin = end;
    }
    return parts;
  }

  template <typename T>
  int Push(int key, const std::vector<T>& values, Element element,
           const std::function<void()>& done = nullptr) {
    const Parts parts = Split(key, values.size(), sizeof(T));
    return kv_.Push(parts.keys, Bytes(values), parts.lens, Command(kDense, element), done);
  }
  template <typename T>
  std::vector<T> Pull(int key, size_t count, Element element) {
    const Parts parts = Split(key, count, sizeof(T));
    std::vector<char> bytes(count * sizeof(T), 'x');
    std::vector<int> lens = parts.lens;
    kv_.Wait(kv_.Pull(parts.keys, &bytes, &lens, Command(kDense, element)));
    CHECK(lens == parts.lens);
    return Values<T>(bytes);
  }
  template <typename T>
  std::vector<T> PushPull(int key, const std::vector<T>& values, Element element) {
    const Parts parts = Split(key, values.size(), sizeof(T));
    std::vector<char> bytes(values.size() * sizeof(T), 'x');
    std::vector<int> lens = parts.lens;
    kv_.Wait(kv_.PushPull(parts.keys, Bytes(values), &bytes, &lens, Command(kDense, element)));
    return Values<T>(bytes);
  }
  // The first worker's values, known to all when this returns.
  template <typename T>
  void Init(int key, const std::vector<T>& values, Element element) {
    if (ps::MyRank() == 0) Wait(Push(key, values, element));
    Barrier();
  }

  // Of a small key: its server gets a key that says how many elements there are, then the bytes.
  int PushCompressed(int key, size_t count, const std::vector<unsigned char>& encoded) {
    const Parts parts = Split(key, count, sizeof(float));
    const ps::Key begin = parts.keys[0] - static_cast<ps::Key>(key);
    return kv_.Push({begin + count, parts.keys[0]}, Bytes(encoded),
                    {0, static_cast<int>(encoded.size())}, Command(kCompressed, kFloat32));
  }

  // A table whose rows are cut over the servers: server i has rows i·rows_each to (i+1)·rows_each.
  Parts SplitRows(int key, const std::vector<int>& rows, int rows_each, int lens) const {
    const auto& ranges = ps::Postoffice::Get()->GetServerKeyRanges();
    Parts parts;
    for (size_t i = 0; i < ranges.size(); ++i) {
      const ps::Key table = ranges[i].begin() + key;
      parts.keys.push_back(table);
      parts.lens.push_back(0);
      for (const int row : rows) {
        if (row / rows_each != static_cast<int>(i)) continue;
        parts.keys.push_back(table + row % rows_each);
        parts.lens.push_back(lens);
      }
    }
    return parts;
  }
  int PushRows(int key, const std::vector<int>& rows, int rows_each, int width,
               const std::vector<float>& values) {
    const Parts parts = SplitRows(key, rows, rows_each, width * static_cast<int>(sizeof(float)));
    return kv_.Push(parts.keys, Bytes(values), parts.lens, Command(kRowSparse, kFloat32));
  }
  // Lens come back in elements.
  std::vector<float> PullRows(int key, const std::vector<int>& rows, int rows_each, int width) {
    const Parts parts = SplitRows(key, rows, rows_each, width);
    ps::SArray<char> bytes;
    ps::SArray<int> lens;
    ps::SArray<ps::Key> keys(parts.keys);
    kv_.Wait(kv_.ZPull(keys, &bytes, &lens, Command(kRowSparse, kFloat32)));
    CHECK(std::vector<int>(lens.begin(), lens.end()) == parts.lens);
    return Values<float>(std::vector<char>(bytes.begin(), bytes.end()));
  }

  void Wait(int timestamp) { kv_.Wait(timestamp); }

 private:
  ps::KVWorker<char> kv_;
  std::mutex mutex_;
  std::vector<std::string> answers_;
};
