// What a contest's simplest submission is: C++ with iostream, dynamically linked.
#include <iostream>

int main()
{
	std::cout << "hello\n";
}
