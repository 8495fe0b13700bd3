"""Graph data sets, computation trees and graph networks."""
