// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Settings: what Init() was given goes before the process's own environment.

#include <cstdlib>
#include <memory>
#include <string>
#include <unordered_map>

#include "ps/internal/runtime.h"

namespace ps {

class Environment {
 public:
  static Environment* Get() { return _GetSharedRef().get(); }
  static std::shared_ptr<Environment> _GetSharedRef() {
    static std::shared_ptr<Environment> environment = std::make_shared<Environment>();
    return environment;
  }
  template <class Map>
  static Environment* Init(const Map& settings) {
    for (const auto& setting : settings)
      penstock_ps_environment_set(setting.first.c_str(), setting.second.c_str());
    return Get();
  }
  static Environment* Init(const std::unordered_map<std::string, std::string>& settings) {
    return Init<std::unordered_map<std::string, std::string>>(settings);
  }

  // Null when it is not set.
  const char* find(const char* name) const { return penstock_ps_environment_find(name); }
  const char* find(const std::string& name) const { return find(name.c_str()); }
  void set(const char* name, const std::string& value) {
    penstock_ps_environment_set(name, value.c_str());
  }
};

template <class V>
inline V GetEnv(const char* name, V otherwise) {
  const char* const value = Environment::Get()->find(name);
  return value != nullptr ? static_cast<V>(value) : otherwise;
}
inline int GetEnv(const char* name, int otherwise) {
  const char* const value = Environment::Get()->find(name);
  return value != nullptr ? std::atoi(value) : otherwise;
}
inline bool GetEnv(const char* name, bool otherwise) {
  return GetEnv(name, static_cast<int>(otherwise)) != 0;
}
inline double GetEnv(const char* name, double otherwise) {
  const char* const value = Environment::Get()->find(name);
  return value != nullptr ? std::atof(value) : otherwise;
}

}  // namespace ps
