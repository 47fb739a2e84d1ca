// A recursive-descent evaluator over extents.
#include "core/shape_expr.h"

#include <string>

#include "core/status.h"

namespace swiftkv {
namespace {

constexpr std::array<std::string_view, kSymCount> kSymbolNames = {
    "rows", "d",  "n",      "k",      "Hq",  "Hk",  "hd",     "ff",    "V",    "P",
    "B",    "NB", "tables", "stride", "src", "top", "groups", "slots", "masks"};

constexpr bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

constexpr bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// expression = term { + term }, term = factor { (* | /) factor }, factor = number | symbol | ( expression )
class Evaluator {
 public:
  Evaluator(std::string_view text, const Symbols& symbols) : text_(text), symbols_(symbols) {}

  Extent whole() {
    const Extent e = expression();
    if (at_ != text_.size()) malformed();
    return e;
  }

 private:
  char peek() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  Extent expression() {
    Extent left = term();
    while (peek() == '+') {
      ++at_;
      const Extent right = term();
      // A row axis may only have a constant added: [B + 1].
      if (left.axis != Axis::none) left.plus += static_cast<int32_t>(right.size);
      left.size += right.size;
    }
    return left;
  }

  Extent term() {
    Extent left = factor();
    for (char c; (c = peek()) == '*' || c == '/';) {
      ++at_;
      const int64_t right = factor().size;
      int64_t size = 0;
      if (c == '/') {
        size = (left.size + right - 1) / right;
      } else if (__builtin_mul_overflow(left.size, right, &size)) {
        throw Error(Code::invalid_argument, "the size " + std::string(text_) + " overflows");
      }
      left = {.size = size};
    }
    return left;
  }

  Extent factor() {
    const char c = peek();
    if (c == '(') {
      ++at_;
      const Extent inside = expression();
      if (peek() != ')') malformed();
      ++at_;
      return inside;
    }
    const size_t begin = at_;
    if (is_digit(c)) {
      int64_t value = 0;
      for (; at_ < text_.size() && is_digit(text_[at_]); ++at_) value = value * 10 + (text_[at_] - '0');
      return {.size = value};
    }
    while (at_ < text_.size() && is_letter(text_[at_])) ++at_;
    const Sym s = single_symbol(text_.substr(begin, at_ - begin));
    if (s == Sym::count || !symbols_.bound(s)) malformed();
    return symbols_.size(s);
  }

  [[noreturn]] void malformed() {
    throw Error(Code::internal, "the shape " + std::string(text_) + " of an op's spec cannot be evaluated");
  }

  std::string_view text_;
  const Symbols& symbols_;
  size_t at_ = 0;
};

}  // namespace

std::string_view sym_name(Sym s) {
  return kSymbolNames[static_cast<size_t>(s)];
}

std::string_view next_dim(std::string_view& shape) {
  const size_t comma = shape.find(',');
  std::string_view dim = shape.substr(0, comma);
  shape = comma == std::string_view::npos ? std::string_view{} : shape.substr(comma + 1);
  while (!dim.empty() && dim.front() == ' ') dim.remove_prefix(1);
  return dim;
}

Sym single_symbol(std::string_view dim) {
  for (size_t i = 0; i < kSymCount; ++i) {
    if (kSymbolNames[i] == dim) return static_cast<Sym>(i);
  }
  return Sym::count;
}

Extent evaluate(std::string_view dim, const Symbols& symbols) {
  return Evaluator(dim, symbols).whole();
}

}  // namespace swiftkv
