// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// SArray: an array that copies share. A copy, a segment or a conversion keeps the memory alive; the
// elements are trivially copyable. Threads: as std::shared_ptr.

#include <algorithm>
#include <initializer_list>
#include <type_traits>

#include "ps/base.h"
#include "ps/range.h"

namespace ps {

template <typename V>
class SArray {
 public:
  SArray() {}
  ~SArray() {}
  SArray(const SArray&) = default;
  SArray(SArray&&) = default;
  SArray& operator=(const SArray&) = default;
  SArray& operator=(SArray&&) = default;

  explicit SArray(size_t size, V value = V()) { resize(size, value); }

  // The same bytes as elements of another type.
  template <typename W>
  explicit SArray(const SArray<W>& other) {
    *this = other;
  }
  template <typename W>
  void operator=(const SArray<W>& other) {
    const size_t bytes = other.size() * sizeof(W);
    if (bytes % sizeof(V) != 0)
      internal::Fail("an SArray cannot be converted: its bytes do not divide");
    size_ = bytes / sizeof(V);
    capacity_ = other.capacity() * sizeof(W) / sizeof(V);
    ptr_ = std::shared_ptr<V>(other.ptr(), reinterpret_cast<V*>(other.data()));
    CopyDevices(other);
  }

  // The caller's memory: it stays the caller's, or is deleted with the last copy.
  SArray(V* data, size_t size, bool deletable = false) {
    if (deletable) {
      reset(data, size, [](V* mine) { delete[] mine; });
    } else {
      reset(data, size, [](V*) {});
    }
  }
  explicit SArray(const std::vector<V>& values) { CopyFrom(values.data(), values.size()); }
  explicit SArray(const std::shared_ptr<std::vector<V>>& values)
      : size_(values->size()), capacity_(values->size()), ptr_(values, values->data()) {}
  template <typename W>
  SArray(const std::initializer_list<W>& values) {
    CopyFrom(values.begin(), values.end());
  }
  template <typename W>
  void operator=(const std::initializer_list<W>& values) {
    CopyFrom(values.begin(), values.end());
  }

  template <typename Deleter>
  void reset(V* data, size_t size, Deleter deleter, DeviceType src_device_type = CPU,
             int src_device_id = 0, DeviceType dst_device_type = CPU, int dst_device_id = 0) {
    ptr_.reset(data, deleter);
    size_ = capacity_ = size;
    src_device_type_ = src_device_type;
    src_device_id_ = src_device_id;
    dst_device_type_ = dst_device_type;
    dst_device_id_ = dst_device_id;
  }
  // Shares memory that something else keeps.
  void share(const std::shared_ptr<V>& data, size_t size) {
    ptr_ = data;
    size_ = capacity_ = size;
  }

  void resize(size_t size, V value = V()) {
    const size_t before = size_;
    if (capacity_ < size) {
      Grow(size + 5);
    }
    if (size > before) std::fill(data() + before, data() + size, value);
    size_ = size;
  }
  void reserve(size_t size) {
    if (capacity_ < size) Grow(size);
  }
  void clear() {
    ptr_.reset();
    size_ = capacity_ = 0;
  }

  void CopyFrom(const V* values, size_t size) {
    V* const copy = new V[size + 5];
    if (size != 0) std::memcpy(static_cast<void*>(copy), values, size * sizeof(V));
    const SArray before = *this;
    reset(copy, size, [](V* mine) { delete[] mine; });
    capacity_ = size + 5;
    CopyDevices(before);
  }
  void CopyFrom(const SArray<V>& other) {
    if (this != &other) CopyFrom(other.data(), other.size());
  }
  template <typename ForwardIt>
  void CopyFrom(ForwardIt first, ForwardIt last) {
    const size_t size = static_cast<size_t>(std::distance(first, last));
    V* const copy = new V[size + 5];
    std::copy(first, last, copy);
    const SArray before = *this;
    reset(copy, size, [](V* mine) { delete[] mine; });
    capacity_ = size + 5;
    CopyDevices(before);
  }
  // Elements [begin, end), in the same memory.
  SArray<V> segment(size_t begin, size_t end) const {
    if (begin > end || end > size_) internal::Fail("a segment of an SArray ends outside of it");
    SArray<V> part;
    part.ptr_ = std::shared_ptr<V>(ptr_, data() + begin);
    part.size_ = part.capacity_ = end - begin;
    part.CopyDevices(*this);
    return part;
  }

  V* begin() { return data(); }
  const V* begin() const { return data(); }
  V* end() { return data() + size_; }
  const V* end() const { return data() + size_; }
  V* data() const { return ptr_.get(); }
  std::shared_ptr<V>& ptr() { return ptr_; }
  const std::shared_ptr<V>& ptr() const { return ptr_; }
  size_t size() const { return size_; }
  size_t capacity() const { return capacity_; }
  bool empty() const { return size_ == 0; }
  V back() const { return data()[size_ - 1]; }
  V front() const { return data()[0]; }
  V& operator[](size_t i) { return data()[i]; }
  const V& operator[](size_t i) const { return data()[i]; }

  void push_back(const V& value) {
    const V copy = value;
    if (size_ == capacity_) Grow(size_ * 2 + 5);
    data()[size_++] = copy;
  }
  void pop_back() {
    if (size_ != 0) --size_;
  }
  void append(const SArray<V>& other) {
    const SArray<V> kept = other;
    if (kept.empty()) return;
    const size_t before = size_;
    resize(before + kept.size());
    std::memcpy(static_cast<void*>(data() + before), kept.data(), kept.size() * sizeof(V));
  }

  std::string DebugString() const {
    std::ostringstream text;
    text << (src_device_type_ == CPU ? "" : DeviceTypeName[src_device_type_])
         << (src_device_type_ == CPU ? "" : "[" + std::to_string(src_device_id_) + "]") << "["
         << size_ << " x " << sizeof(V) << " bytes at " << static_cast<const void*>(data()) << "]";
    return text.str();
  }

  DeviceType src_device_type_ = CPU;
  int src_device_id_ = 0;
  DeviceType dst_device_type_ = CPU;
  int dst_device_id_ = 0;

 private:
  template <typename W>
  friend class SArray;

  template <typename W>
  void CopyDevices(const SArray<W>& other) {
    src_device_type_ = other.src_device_type_;
    src_device_id_ = other.src_device_id_;
    dst_device_type_ = other.dst_device_type_;
    dst_device_id_ = other.dst_device_id_;
  }
  void Grow(size_t capacity) {
    V* const grown = new V[capacity];
    const size_t size = size_;
    if (size != 0) std::memcpy(static_cast<void*>(grown), data(), size * sizeof(V));
    const SArray before = *this;
    reset(grown, size, [](V* mine) { delete[] mine; });
    capacity_ = capacity;
    CopyDevices(before);
  }

  size_t size_ = 0;
  size_t capacity_ = 0;
  std::shared_ptr<V> ptr_;
};

// Where the elements of [lower, upper) are in an ascending array.
template <typename V>
Range FindRange(const SArray<V>& array, V lower, V upper) {
  if (upper <= lower) return Range(0, 0);
  const V* const first = std::lower_bound(array.begin(), array.end(), lower);
  const V* const last = std::lower_bound(array.begin(), array.end(), upper);
  return Range(static_cast<uint64_t>(first - array.begin()),
               static_cast<uint64_t>(last - array.begin()));
}

template <typename V>
inline std::string DebugStr(const V* data, int size, int most = 5) {
  std::ostringstream text;
  text << "[" << size << "]: ";
  for (int i = 0; i < size; ++i) {
    if (size > 2 * most && i == most) {
      text << "... ";
      i = size - most;
    }
    text << data[i] << " ";
  }
  return text.str();
}
template <typename V>
inline std::string DebugStr(const SArray<V>& array) {
  return DebugStr(array.data(), static_cast<int>(array.size()));
}

template <typename V>
std::ostream& operator<<(std::ostream& out, const SArray<V>& array) {
  return out << DebugStr(array);
}

}  // namespace ps
