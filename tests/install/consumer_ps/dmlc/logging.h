// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Stands for a framework's own, which has these guards.
#pragma once
#ifndef DMLC_LOGGING_H_
#define DMLC_LOGGING_H_

#include <iostream>

#define FRAMEWORKS_OWN 1
#define CHECK(condition) \
  if (!(condition)) std::cerr << #condition
#define LOG(severity) std::cerr << #severity << ": "
#define LOG_IF(severity, condition) \
  if (condition) LOG(severity)

#endif  // DMLC_LOGGING_H_
