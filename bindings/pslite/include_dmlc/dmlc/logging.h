// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// A fallback for programs that bring no dmlc-core (the guard is dmlc-core's). Comparisons print
// the expression's text, not the operands: programs compare iterators.
#pragma once
#ifndef DMLC_LOGGING_H_
#define DMLC_LOGGING_H_

#include <dmlc/base.h>

#include <ctime>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>

namespace dmlc {

struct Error : public std::runtime_error {
  explicit Error(const std::string& what) : std::runtime_error(what) {}
};

inline void InitLogging(const char*) {}

namespace log {

inline std::string Where(const char* file, int line) {
  const std::time_t now = std::time(nullptr);
  std::tm local = std::tm();
  localtime_r(&now, &local);
  char clock[16];
  std::strftime(clock, sizeof clock, "%H:%M:%S", &local);
  std::ostringstream text;
  text << "[" << clock << "] " << file << ":" << line << ": ";
  return text.str();
}

// One line to standard error, when it goes out of scope.
class Line {
 public:
  Line(const char* file, int line) { text_ << Where(file, line); }
  ~Line() { std::cerr << text_.str() + "\n"; }
  Line(const Line&) = delete;
  void operator=(const Line&) = delete;
  std::ostream& stream() { return text_; }

 private:
  std::ostringstream text_;
};

// The same, and then the program fails.
class FatalLine {
 public:
  FatalLine(const char* file, int line) { text_ << Where(file, line); }
  ~FatalLine() noexcept(false) {
    std::cerr << text_.str() + "\n";
    if (DMLC_LOG_FATAL_THROW) throw Error(text_.str());
    std::abort();
  }
  FatalLine(const FatalLine&) = delete;
  void operator=(const FatalLine&) = delete;
  std::ostream& stream() { return text_; }

 private:
  std::ostringstream text_;
};

// Makes both arms of ?: void.
struct Voidify {
  void operator&(std::ostream&) {}
};

template <typename T>
inline T* NotNull(const char* file, int line, const char* text, T* pointer) {
  if (pointer == nullptr) FatalLine(file, line).stream() << "Check notnull: " << text << " ";
  return pointer;
}

}  // namespace log
}  // namespace dmlc

#define DMLC_LOG_STREAM_INFO ::dmlc::log::Line(__FILE__, __LINE__).stream()
#define DMLC_LOG_STREAM_WARNING DMLC_LOG_STREAM_INFO
#define DMLC_LOG_STREAM_ERROR DMLC_LOG_STREAM_INFO
#define DMLC_LOG_STREAM_FATAL ::dmlc::log::FatalLine(__FILE__, __LINE__).stream()
#ifdef NDEBUG
#define DMLC_LOG_STREAM_DFATAL DMLC_LOG_STREAM_ERROR
#else
#define DMLC_LOG_STREAM_DFATAL DMLC_LOG_STREAM_FATAL
#endif

#define LOG(severity) DMLC_LOG_STREAM_##severity
#define LG LOG(INFO)
#define LOG_IF(severity, condition) !(condition) ? (void)0 : ::dmlc::log::Voidify() & LOG(severity)
#define VLOG(level) LOG_IF(INFO, false)

#define CHECK(condition) \
  (condition) ? (void)0 : ::dmlc::log::Voidify() & LOG(FATAL) << "Check failed: " #condition << ' '
#define CHECK_EQ(x, y) CHECK((x) == (y))
#define CHECK_NE(x, y) CHECK((x) != (y))
#define CHECK_LT(x, y) CHECK((x) < (y))
#define CHECK_LE(x, y) CHECK((x) <= (y))
#define CHECK_GT(x, y) CHECK((x) > (y))
#define CHECK_GE(x, y) CHECK((x) >= (y))
#define CHECK_NOTNULL(pointer) ::dmlc::log::NotNull(__FILE__, __LINE__, #pointer, pointer)

#ifdef NDEBUG
#define DCHECK(condition) \
  while (false) CHECK(condition)
#else
#define DCHECK(condition) CHECK(condition)
#endif
#define DCHECK_EQ(x, y) DCHECK((x) == (y))
#define DCHECK_NE(x, y) DCHECK((x) != (y))
#define DCHECK_LT(x, y) DCHECK((x) < (y))
#define DCHECK_LE(x, y) DCHECK((x) <= (y))
#define DCHECK_GT(x, y) DCHECK((x) > (y))
#define DCHECK_GE(x, y) DCHECK((x) >= (y))

#endif  // DMLC_LOGGING_H_
