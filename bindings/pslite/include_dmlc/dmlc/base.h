// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// A fallback for programs that bring no dmlc-core: the guard is dmlc-core's, so that whichever copy
// comes first is the one.
#pragma once
#ifndef DMLC_BASE_H_
#define DMLC_BASE_H_

#ifndef DMLC_LOG_FATAL_THROW
#define DMLC_LOG_FATAL_THROW 1
#endif
#ifndef DMLC_USE_CXX11
#define DMLC_USE_CXX11 1
#endif
#ifndef DISALLOW_COPY_AND_ASSIGN
#define DISALLOW_COPY_AND_ASSIGN(TypeName) \
  TypeName(const TypeName&) = delete;      \
  void operator=(const TypeName&) = delete
#endif

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace dmlc {

// Of an empty container, null.
template <typename T>
inline T* BeginPtr(std::vector<T>& values) {
  return values.empty() ? nullptr : values.data();
}
template <typename T>
inline const T* BeginPtr(const std::vector<T>& values) {
  return values.empty() ? nullptr : values.data();
}
inline const char* BeginPtr(const std::string& text) {
  return text.empty() ? nullptr : text.data();
}

}  // namespace dmlc

#endif  // DMLC_BASE_H_
