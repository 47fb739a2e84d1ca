// Shapes as specs spell them: dimensions in symbols, separated by commas, with + * / and parentheses.
#pragma once

#include <array>
#include <string_view>

#include "core/op_registry.h"

namespace swiftkv {

std::string_view sym_name(Sym s);

// The symbols known so far and where each came from ("w", "attribute numHeads").
struct Symbols {
  std::array<Extent, kSymCount> sizes = {};
  std::array<std::string_view, kSymCount> from = {};  // empty: not bound

  bool bound(Sym s) const { return !from[static_cast<size_t>(s)].empty(); }
  const Extent& size(Sym s) const { return sizes[static_cast<size_t>(s)]; }
  void bind(Sym s, const Extent& e, std::string_view source) {
    sizes[static_cast<size_t>(s)] = e;
    from[static_cast<size_t>(s)] = source;
  }
};

// Splits off the first dimension of a shape; the rest is empty after the last.
std::string_view next_dim(std::string_view& shape);

// The symbol, if the dimension is one alone; Sym::count otherwise.
Sym single_symbol(std::string_view dim);

// The value of a dimension whose symbols are all bound. `/` rounds up. Throws Error(internal) on a malformed spec.
Extent evaluate(std::string_view dim, const Symbols& symbols);

// Calls f(Sym) for every symbol that occurs, from left to right.
template <class F>
void for_each_symbol(std::string_view text, F&& f) {
  const auto is_name = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  for (size_t i = 0; i < text.size();) {
    size_t end = i;
    while (end < text.size() && is_name(text[end])) ++end;
    if (end > i) f(single_symbol(text.substr(i, end - i)));
    i = end > i ? end : i + 1;
  }
}

}  // namespace swiftkv
